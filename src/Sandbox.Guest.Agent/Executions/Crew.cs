using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// The threads that a process needs, made before it: once a fork bomb runs it may be too late. They wait until they are given their work, or are let go.
/// </summary>
internal sealed class Crew
{
    private readonly Queue<Member> _waiting = [];

    /// <summary>Makes them.</summary>
    /// <exception cref="AgentException">They cannot be made. Those that were are let go.</exception>
    public Crew(int count)
    {
        try
        {
            for (var i = 0; i < count; i++)
            {
                var member = new Member();
                Threads.Start(member.Run, 192 * 1024, "crew");
                _waiting.Enqueue(member);
            }
        }
        catch
        {
            Dismiss();
            throw;
        }
    }

    /// <summary>Gives the next one its work. There must be one left.</summary>
    public void Send(Action work) => _waiting.Dequeue().Go(work);

    /// <summary>Lets go whoever still waits.</summary>
    public void Dismiss()
    {
        while (_waiting.TryDequeue(out var member))
        {
            member.Go(static () => { });
        }
    }

    private sealed class Member
    {
        private readonly ManualResetEventSlim _given = new();
        private Action? _work;

        public void Go(Action work)
        {
            _work = work;
            _given.Set();
        }

        public void Run()
        {
            _given.Wait();
            _work!();
        }
    }
}
