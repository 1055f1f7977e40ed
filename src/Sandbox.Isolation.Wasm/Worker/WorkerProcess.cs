using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Wasm.Worker;

/// <summary>One worker that runs, and all that it holds on the host: its directory, cgroup, cache and user id. Disposing ends it and removes them.</summary>
internal sealed class WorkerProcess : IAsyncDisposable
{
    private const int MaxSocketPath = 107;

    private readonly TaskCompletionSource<string> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _disposing = new(1, 1);
    private readonly Lock _limits = new();
    private readonly StringBuilder _said = new();
    private readonly WasmOptions _options;
    private readonly CgroupTree _cgroups;
    private readonly UserIds.Lease? _user;
    private readonly string _name;
    private readonly string _cache;
    private readonly ILogger _logger;
    private Process? _process;
    private long _machineBytes;
    private long _highestBytes;
    private bool _expected;
    private bool _disposed;

    private WorkerProcess(WasmOptions options, string hostRoot, string name, CgroupTree cgroups, UserIds.Lease? user, ILogger logger)
    {
        (_options, _name, _cgroups, _user, _logger) = (options, name, cgroups, user, logger);
        Directory = Path.Combine(hostRoot, name);
        _cache = Path.Combine(options.CacheDirectory, $"wasm-{options.HostId}-{name}");
    }

    /// <summary>Completes, never faults, when it is gone; says why.</summary>
    public Task<string> Exited => _exited.Task;

    public int ProcessId => _process!.Id;

    public string Directory { get; }

    /// <summary>Where it listens.</summary>
    public string Control => Path.Combine(Directory, "own", "control");

    /// <summary>Whether it sees the host's files only through its own root directory.</summary>
    public bool IsConfined => _user is not null;

    /// <summary>Starts one and waits until it listens. If that fails, nothing of it is left.</summary>
    public static async Task<WorkerProcess> StartAsync(WasmOptions options, string hostRoot, string name, CgroupTree cgroups, UserIds? users, ILogger logger, CancellationToken cancellationToken)
    {
        var worker = new WorkerProcess(options, hostRoot, name, cgroups, users?.Take(), logger);
        try
        {
            if (worker.Control.Length > MaxSocketPath)
            {
                throw new IsolationException($"The runtime directory {options.RuntimeRoot} is too long: socket paths below it must fit {MaxSocketPath} bytes.");
            }

            await worker.BringUpAsync(cancellationToken).ConfigureAwait(false);
            return worker;
        }
        catch (Exception e)
        {
            var said = worker.LastWords();
            await worker.DisposeAsync().ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
            throw new IsolationException($"The WebAssembly worker did not start: {(e is OperationCanceledException ? $"it did not listen within {options.StartDeadline.TotalSeconds:0} s" : e.Message)}.{(said.Length > 0 ? " It said: " + said : "")}", e);
        }
    }

    /// <summary>Makes room for a machine's memory in the worker's limit, until the result is disposed.</summary>
    public IDisposable Reserve(long bytes)
    {
        Change(bytes);
        return new Reservation(() => Change(-bytes));
    }

    public async ValueTask DisposeAsync()
    {
        await _disposing.WaitAsync().ConfigureAwait(false);
        try
        {
            if (_disposed)
            {
                return;
            }

            (_disposed, _expected) = (true, true);
            if (_process is { } process)
            {
                try
                {
                    process.Kill();
                }
                catch (InvalidOperationException)
                {
                    // It has ended.
                }

                await process.WaitForExitAsync().ConfigureAwait(false);
            }

            _exited.TrySetResult("it was asked to stop");
            await LeftOvers.RemoveAsync(_cgroups, _name, Directory, _cache).ConfigureAwait(false);
            _user?.Dispose();
            _process?.Dispose();
        }
        finally
        {
            _disposing.Release();
        }
    }

    private async Task BringUpAsync(CancellationToken cancellationToken)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(_options.StartDeadline);
        const UnixFileMode Mine = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        System.IO.Directory.CreateDirectory(Path.GetDirectoryName(Directory)!);
        System.IO.Directory.CreateDirectory(Directory, Mine);
        System.IO.Directory.CreateDirectory(Path.Combine(Directory, "own"), Mine);
        System.IO.Directory.CreateDirectory(_options.CacheDirectory);
        System.IO.Directory.CreateDirectory(_cache, Mine);

        // Before there is a process: whoever finds the directory knows what belongs to it.
        WorkerRecord.Save(Directory, new WorkerRecord(null, _cache));
        _highestBytes = (long)_options.OverheadMiB << 20;
        var procs = _cgroups.Create(_name, Limits(_highestBytes));
        _process = await WorkerLauncher.StartAsync(_options, Directory, _cache, procs, _user?.UserId, "serve").ConfigureAwait(false);
        _process.StandardInput.Close();
        WorkerRecord.Save(Directory, new WorkerRecord(ProcessIdentity.Of(_process.Id), _cache));
        var errors = ListenAsync(_process.StandardError);
        _ = WatchAsync(_process, errors);
        var line = await _process.StandardOutput.ReadLineAsync(deadline.Token).ConfigureAwait(false);
        if (line != "ready")
        {
            throw new IsolationException(await Task.WhenAny(Exited, Task.Delay(1000, CancellationToken.None)).ConfigureAwait(false) == Exited ? await Exited.ConfigureAwait(false) : "it does not say that it is ready");
        }
    }

    private CgroupLimits Limits(long bytes) => new(bytes, _options.Cores > 0 ? _options.Cores : Environment.ProcessorCount, 16384);

    private void Change(long bytes)
    {
        lock (_limits)
        {
            _machineBytes += bytes;
            var needed = _machineBytes + ((long)_options.OverheadMiB << 20);
            if (needed > _highestBytes && !_disposed)
            {
                // Never down again while it lives: it could hold more than the new limit at that moment, and be killed for it.
                _highestBytes = needed;
                _cgroups.Create(_name, Limits(needed));
            }
        }
    }

    private async Task WatchAsync(Process process, Task errors)
    {
        await process.WaitForExitAsync().ConfigureAwait(false);
        await Task.WhenAny(errors, Task.Delay(500)).ConfigureAwait(false);
        var said = LastWords();
        var why = _expected ? "it was asked to stop"
            : _cgroups.WasOutOfMemory(_name) ? "the kernel killed the WebAssembly worker: its memory limit was reached"
            : process.ExitCode >= 128 ? $"the WebAssembly worker was killed by signal {(process.ExitCode - 128).ToString(CultureInfo.InvariantCulture)}"
            : $"the WebAssembly worker ended with exit code {process.ExitCode.ToString(CultureInfo.InvariantCulture)}";
        if (!_expected)
        {
            _logger.LogError("{Why}. Its last words: {Said}", why, said.Length == 0 ? "none" : said);
        }

        _exited.TrySetResult(why);
        await DisposeAsync().ConfigureAwait(false);
    }

    private async Task ListenAsync(StreamReader reader)
    {
        while (await reader.ReadLineAsync().ConfigureAwait(false) is { } line)
        {
            lock (_said)
            {
                _said.AppendLine(line.Length > 500 ? line[..500] : line);
                if (_said.Length > 4096)
                {
                    _said.Remove(0, _said.Length - 4096);
                }
            }
        }
    }

    private string LastWords()
    {
        lock (_said)
        {
            return _said.ToString().Trim();
        }
    }

    private sealed class Reservation(Action end) : IDisposable
    {
        private int _ended;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _ended, 1) == 0)
            {
                end();
            }
        }
    }
}

/// <summary>What belongs to a worker's directory: the process, once there is one, and its cache. For the reaper.</summary>
internal sealed record WorkerRecord(ProcessIdentity? Process, string Cache)
{
    public static void Save(string directory, WorkerRecord record)
    {
        var file = Path.Combine(directory, "worker.json");
        File.WriteAllBytes(file + ".partial", JsonSerializer.SerializeToUtf8Bytes(record));
        File.Move(file + ".partial", file, overwrite: true);
    }

    public static WorkerRecord? Load(string directory)
    {
        try
        {
            return JsonSerializer.Deserialize<WorkerRecord>(File.ReadAllBytes(Path.Combine(directory, "worker.json")));
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null;
        }
    }
}
