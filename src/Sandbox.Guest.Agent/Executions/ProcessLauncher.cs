using System.Runtime.InteropServices;
using System.Text;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>What to start and as whom.</summary>
internal sealed record Launch(
    IReadOnlyList<string> Argv, IReadOnlyDictionary<string, string> Environment, string Directory, User User, int[] Descriptors, bool ControllingTty, Cgroup Cgroup);

/// <summary>Starts processes in a session, a cgroup and a user of their own.</summary>
internal static unsafe class ProcessLauncher
{
    private static readonly string[] Stages = ["fork", "join its cgroup", "set up its descriptors", "take its terminal", "become its user", "enter its directory", "execute"];

    /// <summary>Starts a process and returns its pid.</summary>
    /// <exception cref="AgentException">It could not be started; says at which stage and why.</exception>
    public static int Start(Launch launch)
    {
        var candidates = Candidates(launch.Argv[0], launch.Environment.TryGetValue("PATH", out var p) ? p : "");
        using var memory = new NativeStrings();
        uint[] groups = launch.Cgroup.Mark is { } mark ? [.. launch.User.Groups, mark] : launch.User.Groups;
        var cgroup = launch.Cgroup.Open();
        int stage, result;
        try
        {
            fixed (int* fds = launch.Descriptors)
            fixed (uint* gids = groups)
            {
                var arguments = new SpawnArguments
                {
                    Candidates = memory.AddAll(candidates),
                    Argv = memory.AddAll(launch.Argv),
                    ShellArgv = memory.AddAll(["/bin/sh", "", .. launch.Argv.Skip(1)]),
                    Envp = memory.AddAll([.. launch.Environment.Select(e => e.Key + "=" + e.Value)]),
                    Cwd = memory.Add(launch.Directory),
                    CgroupProcs = launch.Cgroup.Procs is { } procs ? memory.Add(procs) : null,
                    OomScore = memory.Add("500"),
                    Fds = fds,
                    FdCount = launch.Descriptors.Length,
                    Cgroup = cgroup,
                    ControllingTty = launch.ControllingTty ? 1 : 0,
                    SetUser = User.CanSwitch ? 1 : 0,
                    Uid = launch.User.Uid,
                    Gid = launch.User.Gid,
                    Groups = gids,
                    GroupCount = groups.Length,
                    DropCapabilities = Container.Entered ? 1 : 0,
                };
                var given = &arguments;
                var reached = &stage;
                result = Children.Start(() => Native.Spawn(given, reached));
            }
        }
        finally
        {
            if (cgroup >= 0)
            {
                Native.Close(cgroup);
            }
        }

        if (result > 0)
        {
            return result;
        }

        var what = stage == 6 ? launch.Directory : launch.Argv[0];
        throw AgentException.FromErrno(-result, $"Cannot {Stages[Math.Clamp(stage - 1, 0, 6)]} ({what})");
    }

    /// <summary>The environment a login would give, and what the caller adds.</summary>
    public static Dictionary<string, string> EnvironmentOf(User user, IEnumerable<KeyValuePair<string, string>> added)
    {
        var environment = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["HOME"] = user.Home,
            ["USER"] = user.Name,
            ["LOGNAME"] = user.Name,
            ["SHELL"] = user.Shell,
            ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ["LANG"] = "C.UTF-8",
        };
        foreach (var name in TrustStore.Variables)
        {
            environment[name] = TrustStore.Bundle;
        }

        foreach (var (name, value) in added)
        {
            if (name.Length == 0 || name.Contains('=') || name.Contains('\0') || value.Contains('\0'))
            {
                throw new AgentException(ErrorCode.InvalidArgument, $"'{name}' is no name of an environment variable, or its value holds a NUL.");
            }

            environment[name] = value;
        }

        return environment;
    }

    /// <summary>The paths to try, in order. They are tried in the child, with the permissions and the directory it will have.</summary>
    private static List<string> Candidates(string name, string path)
    {
        if (name.Contains('\0') || name.Length == 0)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "The program's name is empty or holds a NUL.");
        }

        return name.Contains('/') ? [name] : [.. path.Split(':').Select(d => d.Length == 0 ? name : d + "/" + name)];
    }

    /// <summary>C strings that live as long as the call.</summary>
    private sealed class NativeStrings : IDisposable
    {
        private readonly List<nint> _blocks = [];

        public byte* Add(string text)
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            var block = (byte*)Keep(NativeMemory.Alloc((nuint)bytes.Length + 1));
            bytes.CopyTo(new Span<byte>(block, bytes.Length));
            block[bytes.Length] = 0;
            return block;
        }

        public byte** AddAll(IReadOnlyList<string> texts)
        {
            var array = (byte**)Keep(NativeMemory.Alloc((nuint)(texts.Count + 1), (nuint)sizeof(byte*)));
            for (var i = 0; i < texts.Count; i++)
            {
                if (texts[i].Contains('\0'))
                {
                    throw new AgentException(ErrorCode.InvalidArgument, "An argument holds a NUL.");
                }

                array[i] = Add(texts[i]);
            }

            array[texts.Count] = null;
            return array;
        }

        public void Dispose()
        {
            foreach (var block in _blocks)
            {
                NativeMemory.Free((void*)block);
            }
        }

        private void* Keep(void* block)
        {
            _blocks.Add((nint)block);
            return block;
        }
    }
}
