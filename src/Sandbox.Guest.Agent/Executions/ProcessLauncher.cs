using System.Runtime.InteropServices;
using System.Text;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>What to start and as whom.</summary>
internal sealed record Launch(
    IReadOnlyList<string> Argv, IReadOnlyDictionary<string, string> Environment, string Directory, User User, int[] Descriptors, bool ControllingTty, string? CgroupProcs);

/// <summary>Starts processes in a session, a cgroup and a user of their own.</summary>
internal static unsafe class ProcessLauncher
{
    private static readonly string[] Stages = ["fork", "setsid", "join its cgroup", "set up its descriptors", "become its user", "enter its directory", "execute"];

    /// <summary>Starts a process and returns its pid.</summary>
    /// <exception cref="AgentException">It could not be started; says at which stage and why.</exception>
    public static int Start(Launch launch)
    {
        var path = FindProgram(launch.Argv[0], launch.Environment.TryGetValue("PATH", out var p) ? p : "", launch.Directory);
        using var memory = new NativeStrings();
        var groups = launch.User.Groups;
        int stage, result;
        fixed (int* fds = launch.Descriptors)
        fixed (uint* gids = groups)
        {
            var arguments = new SpawnArguments
            {
                Path = memory.Add(path),
                Argv = memory.AddAll(launch.Argv),
                Envp = memory.AddAll([.. launch.Environment.Select(e => e.Key + "=" + e.Value)]),
                Cwd = memory.Add(launch.Directory),
                CgroupProcs = launch.CgroupProcs is null ? null : memory.Add(launch.CgroupProcs),
                Fds = fds,
                FdCount = launch.Descriptors.Length,
                ControllingTty = launch.ControllingTty ? 1 : 0,
                SetUser = User.CanSwitch ? 1 : 0,
                Uid = launch.User.Uid,
                Gid = launch.User.Gid,
                Groups = gids,
                GroupCount = groups.Length,
                ProtectOthers = 1,
            };
            result = Native.Spawn(&arguments, &stage);
        }

        if (result > 0)
        {
            return result;
        }

        var what = stage == 5 ? launch.Directory : launch.Argv[0];
        throw AgentException.FromErrno(-result, $"Cannot {Stages[Math.Clamp(stage, 0, 6)]} ({what})");
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

    private static string FindProgram(string name, string path, string directory)
    {
        if (name.Contains('\0') || name.Length == 0)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "The program's name is empty or holds a NUL.");
        }

        if (name.Contains('/'))
        {
            return Path.Combine(directory, name);
        }

        return path.Split(':').Where(d => d.Length > 0).Select(d => Path.Combine(d, name)).FirstOrDefault(File.Exists)
            ?? throw new AgentException(ErrorCode.NotFound, $"There is no program '{name}' on PATH ({path}).", Native.NoEntry);
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
