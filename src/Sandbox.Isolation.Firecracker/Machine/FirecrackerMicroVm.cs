using System.Diagnostics;
using System.Security.Cryptography;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Api;
using Sandbox.Isolation.Firecracker.Memory.Userfault;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>One Firecracker process and everything it holds on the host.</summary>
internal sealed partial class FirecrackerMicroVm : IMicroVm
{
    private readonly FirecrackerHost _host;
    private readonly FirecrackerDirectory _directory;
    private readonly UserIds.Lease? _user;
    private readonly MachineOrigin _origin;
    private readonly ILogger _logger;
    private readonly ConsoleTail _console = new();
    private readonly ConsoleTail _errors = new(4096);
    private readonly TaskCompletionSource<MicroVmExit> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _disposing = new(1, 1);
    private Process? _process;
    private FirecrackerClient? _api;
    private GuestConnection? _guest;
    private PageServer? _pages;
    private ProcessIdentity? _identity;
    private string _diskPath = "";
    private string? _killedBecause;
    private bool _expected;
    private bool _disposed;

    private FirecrackerMicroVm(MicroVmOwner owner, FirecrackerHost host, FirecrackerDirectory directory, MachineOrigin origin, ILogger logger)
    {
        (Owner, _host, _directory, _origin, _logger) = (owner, host, directory, origin, logger);
        _user = host.Users?.Take();
    }

    public MicroVmOwner Owner { get; private set; }

    public IGuest Guest => _guest ?? throw new InvalidOperationException("The microVM has not started.");

    public Task<MicroVmExit> Exited => _exited.Task;

    public IReadOnlyList<IGuestExecution> Survivors { get; private set; } = [];

    public MicroVmStartReport StartReport { get; private set; } = new("boot", "", 1, TimeSpan.Zero);

    /// <summary>Pages that this process has served, where memory is loaded so.</summary>
    internal long PagesServed => _pages?.Served ?? 0;

    public void Report(string method, TimeSpan duration) => StartReport = new MicroVmStartReport(method, "kvm", 1, duration);

    public async ValueTask DisposeAsync()
    {
        await _disposing.WaitAsync();
        try
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            _expected = true;
            await KillAsync();
            if (_guest is not null)
            {
                await _guest.DisposeAsync();
            }

            // Whoever waits to write to a machine that stood still learns now that it is gone.
            _stopped?.Dispose();
            _api?.Dispose();
            if (_pages is not null)
            {
                await _pages.DisposeAsync();
            }

            _exited.TrySetResult(new MicroVmExit(true, "it was asked to stop"));
            await _host.Cgroups.RemoveAsync(Owner.VmId);
            _directory.RemoveAll();
            TakeDiskBack();
            _origin.Memory?.Dispose();
            _user?.Dispose();
            _process?.Dispose();
        }
        finally
        {
            _disposing.Release();
        }
    }

    public async Task ClaimAsync(MicroVmClaim claim, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(claim);
        var began = Stopwatch.GetTimestamp();
        if (Exited.IsCompleted)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} of the warm pool is dead: {(await Exited).Reason}");
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(ClaimDeadline);
        try
        {
            // The owner first: if this process dies now, the reaper must find whose it was.
            var owner = Owner with { SessionId = claim.SessionId, Generation = claim.Generation };
            _directory.Complete(owner, _identity);

            // Firecracker has the file open; in a jail it is a mount of the file itself, whatever it is called.
            File.Move(_diskPath, claim.DiskPath);
            (Owner, _diskPath) = (owner, claim.DiskPath);
            await _api!.ResumeAsync(limit.Token);

            // Its interpreters got seeds of their own when it was cloned, and it has stood still since: nobody has a copy of it.
            await ReseedAsync(claim.Hostname, claim.SessionId, keepInterpreters: true, limit.Token);
            Report("pool", Stopwatch.GetElapsedTime(began));
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested && e is IOException or OperationCanceledException or GuestException or System.Net.Sockets.SocketException)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} of the warm pool could not be claimed: {e.Message}", e);
        }
    }

    /// <summary>Lets a clone run what a claim will need, so that the pages it touches are there, and pauses it.</summary>
    public async Task ParkAsync(CancellationToken cancellationToken)
    {
        var execution = await _guest!.StartExecutionAsync(
            new StartExecution { ExecutionId = "park", Command = new Command { Argv = { "/bin/sh", "-c", "echo" } } }, cancellationToken);
        await foreach (var e in execution.Events.WithCancellation(cancellationToken))
        {
            await execution.AcknowledgeAsync(e.Seq, cancellationToken);
        }

        // An answer after the last acknowledgement: nothing is under way in the channel when the machine stops.
        await _guest.RequestAsync(new Request { Metrics = new GetMetrics() }, cancellationToken);
        await _api!.PauseAsync(cancellationToken);
    }

    private Task ReseedAsync(string hostname, string sessionId, bool keepInterpreters, CancellationToken cancellationToken) => _guest!.RequestAsync(
        new Request
        {
            Reseed = new Reseed
            {
                Entropy = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(64)),
                UnixNanos = (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100,
                Hostname = hostname,
                SessionId = sessionId,
                KeepInterpreters = keepInterpreters,
            },
        },
        cancellationToken);

    /// <summary>Kills the process, and in a jail those that watch over it; returns when none of them runs any more.</summary>
    private async Task KillAsync()
    {
        if (_process is not { } process)
        {
            return;
        }

        foreach (var pid in _host.Cgroups.ProcessesOf(Owner.VmId))
        {
            try
            {
                using var one = Process.GetProcessById(pid);
                one.Kill();
            }
            catch (Exception e) when (e is ArgumentException or InvalidOperationException)
            {
                // It ended first.
            }
        }

        try
        {
            process.Kill();
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }

        await process.WaitForExitAsync();
    }

    /// <summary>The disk is the session's, and its next machine has another user. A crash leaves it with this one's, which only root can go by.</summary>
    private void TakeDiskBack()
    {
        var path = File.Exists(_diskPath) ? _diskPath : _origin.DiskPath;
        if (_user is null || !File.Exists(path))
        {
            return;
        }

        try
        {
            Launcher.Give(path, 0);
        }
        catch (IsolationException e)
        {
            _logger.LogWarning(e, "The disk of microVM {VmId} stays its user's", Owner.VmId);
        }
    }

    private async Task WatchAsync(Process process, Task errors)
    {
        await process.WaitForExitAsync();
        await Task.WhenAny(errors, Task.Delay(200));
        var said = _errors.Read(3);
        var reason = _expected ? "it was asked to stop"
            : _killedBecause
            ?? (_host.Cgroups.WasOutOfMemory(Owner.VmId) ? "the kernel killed its monitor: the host memory limit of the microVM was reached"
            : process.ExitCode >= 128 ? $"its monitor was killed by signal {process.ExitCode - 128}"
            : process.ExitCode != 0 ? $"its monitor failed with exit code {process.ExitCode}{(said.Length > 0 ? ": " + said : "")}"
            : "the guest shut itself down");
        _exited.TrySetResult(new MicroVmExit(_expected, reason));
        _guest?.Close($"the microVM is gone: {reason}");
    }

    /// <summary>A machine whose memory is not served any more hangs for ever at the next page it touches.</summary>
    private async Task WatchPagesAsync(PageServer pages)
    {
        _killedBecause = await pages.Ended;
        if (!_expected)
        {
            await KillAsync();
        }
    }

    /// <summary>A claim takes milliseconds; a machine that needs this long is not going to answer.</summary>
    private static readonly TimeSpan ClaimDeadline = TimeSpan.FromSeconds(5);
}
