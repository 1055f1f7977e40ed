using System.Globalization;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Wasm.Worker;

/// <summary>The worker of this host: started when it is first needed, and again when it is needed after it has died.</summary>
internal sealed class WorkerHost : IAsyncDisposable
{
    private const string Prefix = "worker-";

    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly WasmOptions _options;
    private readonly ILogger _logger;
    private readonly CgroupTree _cgroups;
    private readonly UserIds? _users;
    private readonly string _hostRoot;
    private WorkerProcess? _current;
    private bool _disposed;

    public WorkerHost(WasmOptions options, ILogger logger)
    {
        (_options, _logger) = (options, logger);

        // A tree of its own: other backends take every group in the host's for a machine of theirs.
        _cgroups = new CgroupTree(options.HostId + "-wasm");
        _users = Environment.IsPrivilegedProcess ? new UserIds(Path.Combine(options.RuntimeRoot, "wasm-users"), options.FirstUserId) : null;
        _hostRoot = Path.Combine(options.RuntimeRoot, options.HostId, "wasm");
    }

    /// <summary>The worker that runs, if any.</summary>
    public WorkerProcess? Current => Volatile.Read(ref _current) is { Exited.IsCompleted: false } worker ? worker : null;

    /// <summary>The worker, started if need be.</summary>
    /// <exception cref="IsolationException">It does not start.</exception>
    public async Task<WorkerProcess> GetAsync(CancellationToken cancellationToken)
    {
        if (Current is { } running)
        {
            return running;
        }

        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (Current is { } started)
            {
                return started;
            }

            var worker = await WorkerProcess.StartAsync(_options, _hostRoot, NewName(), _cgroups, _users, _logger, cancellationToken).ConfigureAwait(false);
            Volatile.Write(ref _current, worker);
            return worker;
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Finds out whether the worker runs here: a short-lived one, confined as the real one, runs a module.</summary>
    public async Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken)
    {
        if (!File.Exists(Path.Combine(_options.WorkerDirectory, "wasm-worker.dll")))
        {
            return new BackendVerdict(false, "", $"there is no wasm-worker.dll in {_options.WorkerDirectory}; build src/Sandbox.Wasm.Worker", "", []);
        }

        var warnings = new List<string>();
        if (_cgroups.Problem is { } problem)
        {
            warnings.Add(problem);
        }

        if (_users is null)
        {
            warnings.Add("the server does not run as root: the WebAssembly worker runs as its own user and is not confined by user id, root directory or namespaces");
        }

        // In turn, so that nobody takes it for something that was left.
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        var directory = Path.Combine(_hostRoot, NewName());
        UserIds.Lease? user = null;
        try
        {
            user = _users?.Take();
            Directory.CreateDirectory(Path.Combine(directory, "own"));
            Directory.CreateDirectory(Path.Combine(directory, "cache"));
            Directory.CreateDirectory(_options.ImageRoot);
            using var process = await WorkerLauncher.StartAsync(_options, directory, Path.Combine(directory, "cache"), [], user?.UserId, "probe").ConfigureAwait(false);
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            deadline.CancelAfter(_options.StartDeadline);
            try
            {
                var errors = process.StandardError.ReadToEndAsync(deadline.Token);
                var said = (await process.StandardOutput.ReadToEndAsync(deadline.Token).ConfigureAwait(false)).Trim();
                await process.WaitForExitAsync(deadline.Token).ConfigureAwait(false);
                return process.ExitCode == 0
                    ? new BackendVerdict(true, "", "the worker ran a module", "Wasmtime " + said, warnings)
                    : new BackendVerdict(false, "", $"the worker failed with exit code {process.ExitCode}: {said} {(await errors.ConfigureAwait(false)).Trim()}", "", warnings);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                process.Kill();
                return new BackendVerdict(false, "", $"the worker did not run a module within {_options.StartDeadline.TotalSeconds:0} s", "", warnings);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or IsolationException or System.ComponentModel.Win32Exception)
        {
            return new BackendVerdict(false, "", $"the worker cannot be started: {e.Message}", "", warnings);
        }
        finally
        {
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }

            user?.Dispose();
            _turn.Release();
        }
    }

    /// <summary>Kills and removes what workers of a predecessor have left.</summary>
    public async Task<IReadOnlyList<ReapedMicroVm>> ReapAsync(CancellationToken cancellationToken)
    {
        var reaped = new List<ReapedMicroVm>();
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var mine = Volatile.Read(ref _current)?.Directory;
            var names = (Directory.Exists(_hostRoot) ? Directory.GetDirectories(_hostRoot, Prefix + "*") : []).Select(d => Path.GetFileName(d)!);
            foreach (var name in names.Concat(_cgroups.List()).Distinct().ToList())
            {
                cancellationToken.ThrowIfCancellationRequested();
                var directory = Path.Combine(_hostRoot, name);
                if (directory == mine)
                {
                    continue;
                }

                var record = WorkerRecord.Load(directory);
                var cache = record?.Cache ?? Path.Combine(_options.CacheDirectory, $"wasm-{_options.HostId}-{name}");
                var killed = await LeftOvers.RemoveAsync(_cgroups, name, directory, cache, record?.Process).ConfigureAwait(false);
                reaped.Add(new ReapedMicroVm(new MicroVmOwner(name, "", 0), killed ? "worker process, cgroup, directory" : "worker's cgroup, directory"));
            }
        }
        finally
        {
            _turn.Release();
        }

        return reaped;
    }

    public async ValueTask DisposeAsync()
    {
        await _turn.WaitAsync().ConfigureAwait(false);
        try
        {
            _disposed = true;
            if (_current is { } worker)
            {
                await worker.DisposeAsync().ConfigureAwait(false);
            }
        }
        finally
        {
            _turn.Release();
        }
    }

    private static string NewName() => Prefix + Random.Shared.Next(0x1000, 0xfffff).ToString("x", CultureInfo.InvariantCulture);
}
