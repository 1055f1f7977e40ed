using System.Collections.Concurrent;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Files;

/// <summary>
/// Runs file operations with the permissions of a user. Linux keeps the file-system identity of each thread, so the work happens on threads of
/// its own, which take the user's identity, work, and give it back. Without root there is only one identity and nothing to switch.
/// </summary>
internal static unsafe class UserThread
{
    private const nint SetFsUid = 122;
    private const nint SetFsGid = 123;
    private const nint SetGroups = 116;
    private static readonly BlockingCollection<Action> Work = [];

    static UserThread()
    {
        for (var i = 0; i < 4; i++)
        {
            Threads.Start(Run, 512 * 1024, "files");
        }
    }

    /// <summary>Makes its threads, while there is nobody yet who could keep them from being made.</summary>
    public static void Prepare()
    {
    }

    /// <summary>Does something as a user and returns what came of it.</summary>
    public static Task<T> RunAsync<T>(User user, Func<T> work)
    {
        var result = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        Work.Add(() =>
        {
            try
            {
                Become(user.Uid, user.Gid, user.Groups);
                result.SetResult(work());
            }
            catch (Exception e)
            {
                result.SetException(e);
            }
            finally
            {
                BecomeAgain();
            }
        });
        return result.Task;
    }

    private static void Become(uint uid, uint gid, uint[] groups)
    {
        if (!User.CanSwitch)
        {
            return;
        }

        if (Container.Entered)
        {
            Container.BecomeUser(uid, gid, groups);
            return;
        }

        fixed (uint* list = groups)
        {
            // Back to root first: only root may set groups.
            _ = Native.SystemCall(SetFsUid, 0, 0, 0);
            _ = Native.SystemCall(SetGroups, groups.Length, (nint)list, 0);
            _ = Native.SystemCall(SetFsGid, (nint)gid, 0, 0);
            _ = Native.SystemCall(SetFsUid, (nint)uid, 0, 0);
        }
    }

    private static void BecomeAgain()
    {
        if (Container.Entered)
        {
            Container.BecomeAgent();
        }
        else
        {
            Become(0, 0, [0]);
        }
    }

    private static void Run()
    {
        foreach (var work in Work.GetConsumingEnumerable())
        {
            work();
        }
    }
}
