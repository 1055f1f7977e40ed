using System.Collections.Concurrent;
using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Channel;
using Sandbox.Wasm.Worker.Control;
using Sandbox.Wasm.Worker.Executions;
using Sandbox.Wasm.Worker.Languages;
using Sandbox.Wasm.Worker.Modules;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Sandbox.Wasm.Worker.Wasi;

namespace Sandbox.Wasm.Worker.Machine;

/// <summary>One session's machine: its file system, its share of the processor and of memory, what runs in it. Lives as long as its connection.</summary>
internal sealed class WasmMachine : IDisposable
{
    /// <summary>How often what a long execution writes is committed.</summary>
    private static readonly TimeSpan KeepEvery = TimeSpan.FromSeconds(2);

    /// <summary>The one user there is.</summary>
    public const string User = "user";

    public const string Home = "/home/user";

    /// <summary>Below this much free space a disk counts as full, as the guest agent has it.</summary>
    private const long FullBelow = 1 << 20;

    private readonly CancellationTokenSource _closed = new();
    private readonly Stream _stream;
    private readonly Order _order;
    private int _lastPid = 1;

    public WasmMachine(Order order, SessionVolume volume, ModuleStore modules, PythonPool pythons, JavaScriptPool javaScripts, Stream stream)
    {
        (_order, Volume, Modules, Pythons, JavaScripts, _stream) = (order, volume, modules, pythons, javaScripts, stream);

        // A copy: guests that end after the machine ask for it too.
        Closed = _closed.Token;
        var processors = Math.Clamp(order.Vcpus, 1, 256);
        Turns = new Turns(processors);
        Allowance = new Allowance(Math.Max(order.MemoryBytes, 16 << 20), Math.Max(order.Cores, 0.05), processors) { Fixed = () => volume.MemoryBytes };
        Outbox = new Outbox(stream);
        KeptBytes = new KeptBytes(Math.Max(16L << 20, order.MemoryBytes / 8));
        Hostname = order.Hostname;
    }

    public SessionVolume Volume { get; }

    public ModuleStore Modules { get; }

    /// <summary>One module of a machine is loaded or compiled at a time: a session that hands in modules that take a minute each must not take every compiler there is.</summary>
    public SemaphoreSlim Loading { get; } = new(1);

    public PythonPool Pythons { get; }

    public JavaScriptPool JavaScripts { get; }

    public Turns Turns { get; }

    public Allowance Allowance { get; }

    public Outbox Outbox { get; }

    public KeptBytes KeptBytes { get; }

    public ConcurrentDictionary<ulong, Execution> Executions { get; } = new();

    public string ImageDirectory => _order.ImageDirectory;

    public int Vcpus => Math.Max(1, _order.Vcpus);

    public string Hostname { get; set; }

    /// <summary>Cancelled when the machine is over.</summary>
    public CancellationToken Closed { get; }

    public bool IsDiskFull => Volume.Space() is { Total: > 0, Free: < FullBelow };

    /// <summary>Serves the host until it is gone, and ends everything then.</summary>
    public async Task ServeAsync()
    {
        using var server = new MachineServer(this);
        var sending = Outbox.RunAsync();
        _ = KeepNowAndThenAsync();
        try
        {
            await server.ServeAsync(new FrameSource(_stream)).ConfigureAwait(false);
        }
        finally
        {
            _closed.Cancel();
            foreach (var execution in Executions.Values)
            {
                execution.Signal(9);
            }

            Turns.Close();
            Outbox.End();
            await sending.ConfigureAwait(false);
        }
    }

    /// <summary>Commits what guests have written.</summary>
    public void Keep()
    {
        try
        {
            Volume.Commit(flush: false);
        }
        catch (VolumeException)
        {
            // The host's disk is full. What was committed before stays, and the next one may fit.
        }
    }

    public void Dispose()
    {
        _closed.Cancel();
        Turns.Close();
        Volume.Dispose();
        _closed.Dispose();
    }

    /// <summary>Process ids are made up: what has one is a thread of the worker, and no guest can tell.</summary>
    public uint NextPid() => (uint)(Interlocked.Increment(ref _lastPid) & 0x3fff_ffff);

    /// <exception cref="WorkerException">There is no such user.</exception>
    public static void RequireUser(string user)
    {
        if (user is not ("" or User))
        {
            throw new WorkerException(ErrorCode.NotFound, $"There is no user '{user}' in the guest: this session is WebAssembly and has one user, '{User}'.");
        }
    }

    /// <summary>Makes a path absolute.</summary>
    public static string PathFrom(string directory, string path)
    {
        if (path.Contains('\0') || Encoding.UTF8.GetByteCount(path) > ProtocolLimits.MaxPathBytes)
        {
            throw new WorkerException(ErrorCode.InvalidArgument, "The path holds a NUL or is longer than 4096 bytes.");
        }

        return path switch
        {
            "" => directory,
            "~" => Home,
            ['/', ..] => path,
            ['~', '/', .. var rest] => Home + "/" + rest.TrimStart('/'),
            _ => (directory == "/" ? "" : directory) + "/" + path,
        };
    }

    /// <summary>The working directory that is asked for, or the home. The root, where there is no home any more.</summary>
    /// <exception cref="WorkerException">There is no such directory.</exception>
    public string DirectoryFor(string cwd)
    {
        var path = PathFrom(Home, cwd);
        try
        {
            var node = Volume.Find(Volume.Root, path);
            return node.Kind == NodeKind.Directory ? Volume.PathOf(node) ?? "/" : throw new VolumeException(Errno.NotDirectory);
        }
        catch (VolumeException) when (cwd.Length == 0)
        {
            return "/";
        }
        catch (VolumeException e)
        {
            throw WorkerException.Of(e, path);
        }
    }

    /// <summary>A guest's environment.</summary>
    public Dictionary<string, string> EnvironmentWith(IEnumerable<KeyValuePair<string, string>> more, string directory)
    {
        var environment = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["HOME"] = Home,
            ["USER"] = User,
            ["LOGNAME"] = User,
            ["PWD"] = directory,
            ["PATH"] = "/usr/local/bin:/usr/bin:/bin",
            ["LANG"] = "C.UTF-8",
            ["HOSTNAME"] = Hostname,
        };
        foreach (var (name, value) in more)
        {
            environment[name] = value;
        }

        return environment;
    }

    /// <summary>
    /// Gives a guest its directories. A C library for WASI cannot tell "x" from "/x" in a program that never changes its directory; so what it finds as "." is the working directory, and each
    /// directory in the root is there by its own name, which is longer and so is found first.
    /// </summary>
    public void Preopen(WasiProcess process, string directory)
    {
        Add(".", Volume.Find(Volume.Root, directory));
        foreach (var (name, node) in Volume.List(Volume.Root).Where(c => c.Node.Kind == NodeKind.Directory).Take(64))
        {
            Add("/" + name, node);
        }

        void Add(string name, Node node) => process.Add(new DirectoryDescriptor(Volume, node, name));
    }

    private async Task KeepNowAndThenAsync()
    {
        try
        {
            for (var took = TimeSpan.Zero; ;)
            {
                // A tree of a hundred thousand files takes its time to be written: that is at most a twentieth of all.
                await Task.Delay(TimeSpan.FromTicks(Math.Max(KeepEvery.Ticks, took.Ticks * 20)), Closed).ConfigureAwait(false);
                var began = System.Diagnostics.Stopwatch.GetTimestamp();
                Keep();
                took = System.Diagnostics.Stopwatch.GetElapsedTime(began);
            }
        }
        catch (OperationCanceledException)
        {
            // The machine is over; its end commits too.
        }
    }
}
