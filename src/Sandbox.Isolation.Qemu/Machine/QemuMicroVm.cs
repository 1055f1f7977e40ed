using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text.Json;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.Qemu.Memory;
using Sandbox.Isolation.Qemu.Qmp;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>One QEMU process and everything it holds on the host.</summary>
internal sealed partial class QemuMicroVm : IMicroVm
{
    private readonly QemuDirectory _directory;
    private readonly CgroupTree _cgroups;
    private readonly UserIds.Lease? _user;
    private readonly GuestNetwork? _network;
    private readonly ILogger _logger;
    private readonly ConsoleTail _console = new();
    private readonly ConsoleTail _errors = new(4096);
    private readonly TaskCompletionSource<MicroVmExit> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _disposing = new(1, 1);
    private Process? _process;
    private QmpClient? _qmp;
    private GuestConnection? _guest;
    private string? _guestSaid;
    private ProcessIdentity? _identity;
    private string _diskPath = "";
    private IReadOnlyList<MicroVmDevice> _devices = [];
    private MachineOrigin _origin = new() { Facts = null };
    private Socket? _agentSocket;
    private bool _expected;
    private bool _disposed;

    private QemuMicroVm(MicroVmOwner owner, QemuDirectory directory, CgroupTree cgroups, UserIds.Lease? user, GuestNetwork? network, ILogger logger) =>
        (Owner, _directory, _cgroups, _user, _network, _logger) = (owner, directory, cgroups, user, network, logger);

    public MicroVmOwner Owner { get; private set; }

    /// <summary>Of its QEMU.</summary>
    internal int ProcessId => _process!.Id;

    public IGuest Guest => _guest ?? throw new InvalidOperationException("The microVM has not started.");

    public IGuestNetwork? Network => _network;

    public Task<MicroVmExit> Exited => _exited.Task;

    public IReadOnlyList<IGuestExecution> Survivors { get; private set; } = [];

    public MicroVmStartReport StartReport { get; private set; } = new("boot", "", 1, TimeSpan.Zero);

    /// <summary>Boots one, or brings back what it comes from. If that fails, nothing of it is left. The network is the machine's from now on.</summary>
    public static async Task<QemuMicroVm> StartAsync(
        QemuOptions options, MicroVmSpec spec, string accelerator, long tscKhz, string hostRoot, CgroupTree cgroups, UserIds? users, GuestNetwork? network, MachineOrigin origin, TimeSpan deadline, ILogger logger, CancellationToken cancellationToken)
    {
        var directory = new QemuDirectory(hostRoot, spec.Owner.VmId);
        directory.Create(spec.Owner, network?.Name);
        var vm = new QemuMicroVm(spec.Owner, directory, cgroups, users?.Take(), network, logger) { _origin = origin, _base = origin.Base, _lease = origin.Lease, _devices = spec.Devices };
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(deadline);
        try
        {
            await vm.BringUpAsync(options, spec, accelerator, tscKhz, limit.Token);
            return vm;
        }
        catch (Exception e)
        {
            var tail = vm._console.Read();
            var errors = vm._errors.Read();
            await vm.DisposeAsync();
            if (cancellationToken.IsCancellationRequested)
            {
                throw new OperationCanceledException($"Starting microVM {spec.Owner.VmId} was cancelled.", e, cancellationToken);
            }

            var what = e is OperationCanceledException && limit.IsCancellationRequested ? $"it did not answer within {deadline.TotalSeconds:0} s" : e.Message;
            throw new IsolationException(
                $"MicroVM {spec.Owner.VmId} did not start under {accelerator}: {what}."
                + (errors.Length > 0 ? $" QEMU said: {errors}." : "") + (tail.Length > 0 ? $" Its console ended with: {tail}" : ""), e);
        }
    }

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

                await process.WaitForExitAsync();
            }

            if (_guest is not null)
            {
                await _guest.DisposeAsync();
            }

            // Whoever waits to write to a machine that stood still learns now that it is gone.
            _stopped?.Dispose();

            if (_qmp is not null)
            {
                await _qmp.DisposeAsync();
            }

            ReleaseBase();
            _exited.TrySetResult(new MicroVmExit(true, "it was asked to stop"));
            await _cgroups.RemoveAsync(Owner.VmId);
            if (_network is not null)
            {
                await _network.DisposeAsync();
            }

            _directory.Remove();
            foreach (var device in _devices)
            {
                // Before the number is the next machine's user.
                VfioArguments.TakeBack("/dev", device.IommuGroup.ToString(CultureInfo.InvariantCulture));
            }

            _user?.Dispose();
            _process?.Dispose();
        }
        finally
        {
            _disposing.Release();
        }
    }

    private async Task BringUpAsync(QemuOptions options, MicroVmSpec spec, string accelerator, long tscKhz, CancellationToken cancellationToken)
    {
        var limits = new CgroupLimits((long)(spec.MemoryMiB + options.OverheadMiB) << 20, Math.Max(0.1, spec.CpuLimit ?? spec.Vcpus), 64 + (spec.Vcpus * 2));
        var procs = _cgroups.Create(spec.Owner.VmId, limits);
        if (_network is not null && _user is not null)
        {
            _network.GiveTap(_user.UserId);
        }

        _process = await Launcher.StartAsync(
            options.Binary,
            CommandLine.Build(spec, _directory, accelerator, tscKhz, network: _network is not null, clone: _origin.Base is not null, incoming: _origin.LoadAsync is not null),
            spec, _directory, procs, _user?.UserId, accelerator == "kvm", _network?.NamespacePath, _origin.DiskPath ?? spec.DiskPath, _origin.Base?.Golden.Memory.Path ?? "");
        _process.StandardInput.Close();
        _identity = ProcessIdentity.Of(_process.Id);
        _diskPath = spec.DiskPath;
        _directory.Complete(spec.Owner, _identity);
        _ = _console.DrainAsync(_process.StandardOutput.BaseStream);
        var errors = _errors.DrainAsync(_process.StandardError.BaseStream);
        _ = WatchAsync(_process, errors);

        _qmp = await UntilListeningAsync(t => QmpClient.ConnectAsync(_directory.Qmp, OnEvent, t), cancellationToken);
        var stream = await UntilListeningAsync(ConnectAgentAsync, cancellationToken);
        if (_origin.LoadAsync is { } load)
        {
            if (_origin.Base?.Layer is { } layer)
            {
                using var memory = ProcessMemory.Open(_process.Id, (long)spec.MemoryMiB << 20);
                await TakeLayerAsync(layer, memory, cancellationToken);
            }

            await LoadDevicesAsync(_qmp, await load(() => ProcessMemory.Open(_process.Id, (long)spec.MemoryMiB << 20), cancellationToken), cancellationToken);
            await _qmp.ExecuteAsync("cont", null, cancellationToken);
        }

        var connecting = ConnectGuestAsync(stream, spec.Owner.VmId, cancellationToken);
        if (await Task.WhenAny(connecting, Exited) != connecting)
        {
            throw new IsolationException((await Exited).Reason);
        }

        _guest = await connecting;
        await ReseedAsync(spec.Hostname, spec.Owner.SessionId, keepInterpreters: false, cancellationToken);
    }

    private async Task<GuestConnection> ConnectGuestAsync(Stream stream, string name, CancellationToken cancellationToken)
    {
        var options = new GuestConnectionOptions { HelloDeadline = TimeSpan.FromMinutes(5), HelloInterval = TimeSpan.FromMilliseconds(250) };
        if (_origin.Memo is not { } memo)
        {
            return await GuestConnection.ConnectAsync(stream, name, options, _logger, cancellationToken);
        }

        (var connection, Survivors) = await GuestConnection.RestoreAsync(stream, memo(), _origin.Executions, name, options, _logger, cancellationToken);
        return connection;
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

    public void Report(string method, string accelerator, int attempts, TimeSpan duration) => StartReport = new MicroVmStartReport(method, accelerator, attempts, duration);

    private async Task<Stream> ConnectAgentAsync(CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(_directory.Agent), cancellationToken);
            _agentSocket = socket;
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private async Task<T> UntilListeningAsync<T>(Func<CancellationToken, Task<T>> connect, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return await connect(cancellationToken);
            }
            catch (SocketException)
            {
                if (Exited.IsCompleted)
                {
                    throw new IsolationException((await Exited).Reason);
                }

                await Task.Delay(5, cancellationToken);
            }
        }
    }

    private void OnEvent(string name, JsonElement data)
    {
        if (name is "SHUTDOWN" or "GUEST_PANICKED")
        {
            _guestSaid = name == "SHUTDOWN" ? "the guest shut itself down" : "the guest's kernel panicked";
        }
    }

    private async Task WatchAsync(Process process, Task errors)
    {
        await process.WaitForExitAsync();
        await Task.WhenAny(errors, Task.Delay(200));
        var said = _errors.Read(3);
        var reason = _expected ? "it was asked to stop"
            : _cgroups.WasOutOfMemory(Owner.VmId) ? "the kernel killed its monitor: the host memory limit of the microVM was reached"
            : process.ExitCode >= 128 ? $"its monitor was killed by signal {process.ExitCode - 128}"
            : process.ExitCode != 0 ? $"its monitor failed with exit code {process.ExitCode}{(said.Length > 0 ? ": " + said : "")}"
            : _guestSaid ?? "its monitor ended by itself";
        _exited.TrySetResult(new MicroVmExit(_expected, reason));
    }
}
