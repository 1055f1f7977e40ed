using System.ComponentModel;
using System.Globalization;
using System.Security.Cryptography;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Devices.Cdi;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.Oci.Bundles;
using Sandbox.Isolation.Oci.Hosting;

namespace Sandbox.Isolation.Oci.Machine;

/// <summary>One container and everything it holds on the host.</summary>
internal sealed partial class OciMicroVm : IMicroVm
{
    /// <summary>How long the kernel may take to write a disk back and give up its device when its container is gone.</summary>
    private static readonly TimeSpan UnmountDeadline = TimeSpan.FromSeconds(60);

    private readonly ContainerHost _host;
    private readonly ContainerDirectory _directory;
    private readonly UserIds.Lease _ids;
    private readonly GuestNetwork? _network;
    private readonly ConsoleTail _errors = new(8192);
    private readonly TaskCompletionSource<MicroVmExit> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _disposing = new(1, 1);
    private readonly ContainerOrigin _origin;
    private Launched? _launched;
    private AgentPipes? _pipes;
    private GuestConnection? _guest;
    private ProcessIdentity? _identity;
    private string _diskPath;
    private long _diskBytes;
    private bool _disposed;

    private OciMicroVm(ContainerHost host, MicroVmSpec spec, ContainerDirectory directory, UserIds.Lease ids, GuestNetwork? network, ContainerOrigin origin) =>
        (_host, Owner, _directory, _ids, _network, _origin, _diskPath) = (host, spec.Owner, directory, ids, network, origin, origin.DiskPath ?? spec.DiskPath);

    public MicroVmOwner Owner { get; private set; }

    public IGuest Guest => _guest ?? throw new InvalidOperationException("The container has not started.");

    public IGuestNetwork? Network => _network;

    public Task<MicroVmExit> Exited => _exited.Task;

    public IReadOnlyList<IGuestExecution> Survivors { get; private set; } = [];

    public MicroVmStartReport StartReport { get; private set; } = new("boot", "", 1, TimeSpan.Zero);

    private string Kind => _host.Runtime.Kind;

    /// <summary>Starts one, or brings it back from a checkpoint. If that fails, nothing of it is left.</summary>
    public static async Task<OciMicroVm> StartAsync(ContainerHost host, MicroVmSpec spec, ContainerOrigin origin, TimeSpan deadline, CancellationToken cancellationToken)
    {
        var directory = new ContainerDirectory(host.HostRoot, spec.Owner.VmId);
        var network = host.Networks is { } networks ? await networks.TakeAsync(cancellationToken) : null;
        OciMicroVm vm;
        var prepared = false;
        try
        {
            directory.Prepare(spec.Owner, network?.Name);
            prepared = true;
            vm = new OciMicroVm(host, spec, directory, host.Ids.Take(), network, origin);
        }
        catch
        {
            if (network is not null)
            {
                await network.DisposeAsync();
            }

            if (prepared)
            {
                directory.Remove();
            }

            throw;
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(deadline);
        try
        {
            await vm.BringUpAsync(spec, limit.Token);
            return vm;
        }
        catch (Exception e)
        {
            var errors = vm._errors.Read();
            await vm.DisposeAsync();
            if (cancellationToken.IsCancellationRequested)
            {
                throw new OperationCanceledException($"Starting container {spec.Owner.VmId} was cancelled.", e, cancellationToken);
            }

            var what = e is OperationCanceledException && limit.IsCancellationRequested ? string.Create(CultureInfo.InvariantCulture, $"it did not answer within {deadline.TotalSeconds:0.#} s") : e.Message;
            throw new IsolationException($"Container {spec.Owner.VmId} did not start under {vm.Kind}: {what.TrimEnd('.')}.{(errors.Length > 0 ? $" {vm.Kind} said: {errors}" : "")}", e);
        }
    }

    public void Report(string method, TimeSpan duration) => StartReport = new MicroVmStartReport(method, Kind, 1, duration);

    /// <summary>Puts a restored disk into its place.</summary>
    public void PlaceDisk(string path)
    {
        File.Move(_diskPath, path, overwrite: true);
        _diskPath = path;
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
            _exited.TrySetResult(new MicroVmExit(true, "it was asked to stop"));
            await KillAsync();
            if (_guest is not null)
            {
                await _guest.DisposeAsync();
            }

            if (_pipes is not null)
            {
                await _pipes.DisposeAsync();
            }

            // Whoever waits to write to a machine that stood still learns now that it is gone.
            _stopped?.Dispose();
            await GiveUpDiskAsync();
            await _host.Cgroups.RemoveAsync(Owner.VmId);
            if (_network is not null)
            {
                await _network.DisposeAsync();
            }

            _directory.Remove();
            _ids.Dispose();
        }
        finally
        {
            _disposing.Release();
        }
    }

    private async Task KillAsync()
    {
        if (_launched?.Process is { } runtime)
        {
            try
            {
                runtime.Kill(entireProcessTree: true);
            }
            catch (Exception e) when (e is InvalidOperationException or Win32Exception)
            {
                // It has ended: a container outlives the runtime that started it.
            }

            await runtime.WaitForExitAsync();
            runtime.Dispose();
        }

        await _host.Cgroups.KillAsync(Owner.VmId);
        if (_identity is { IsRunning: true } first)
        {
            Kernel.Kill(first.Pid, 9);
        }
    }

    /// <summary>The session's file system is written back and its device given up when the last mount of it goes; only then may another container have the disk.</summary>
    private async Task GiveUpDiskAsync()
    {
        if (_launched is not { } launched)
        {
            return;
        }

        await Task.Run(launched.DiskMount.Dispose);
        if (!await LoopDevice.WaitUntilGoneAsync(launched.LoopDevice, _diskPath, UnmountDeadline))
        {
            _host.Logger.LogError("The disk {Disk} of container {VmId} is still mounted (loop device {Device}) {Seconds} s after it ended", _diskPath, Owner.VmId, launched.LoopDevice, UnmountDeadline.TotalSeconds);
        }
    }

    private async Task BringUpAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        var root = await _host.Roots.GetAsync(spec.ImageDirectory, cancellationToken);
        var owners = await _host.Namespaces.GetAsync(_ids.UserId, cancellationToken);
        await File.WriteAllTextAsync(Path.Combine(_directory.Bundle, "config.json"), Configuration(spec), cancellationToken);
        await LoopDevice.WaitUntilFreeAsync(_diskPath, UnmountDeadline, cancellationToken);
        _diskBytes = new System.IO.FileInfo(_diskPath).Length;
        var runtime = _host.Runtime;
        var arguments = _origin.Checkpoint is { } checkpoint
            ? runtime.Restore(_directory.State, _directory.Bundle, _directory.PidFile, checkpoint, Owner.VmId)
            : runtime.Run(_directory.State, _directory.Bundle, _directory.PidFile, Owner.VmId);
        _launched = await ContainerLauncher.StartAsync(new RootLayers(root, _diskPath, _ids.UserId, owners, _directory.DirectoryPath, Kind == "crun" ? _host.Cgroups.Unified : null), runtime.Program, arguments);
        _pipes = new AgentPipes(_launched.Process);
        _pipes.GiveTo(_ids.UserId + ContainerConfig.AgentUserId);

        // Standard error of the container is the runtime's: its complaints, then the agent's last words.
        _ = _errors.DrainAsync(_launched.Process.StandardError.BaseStream);
        await _launched.Process.WaitForExitAsync(cancellationToken);
        if (_launched.Process.ExitCode != 0)
        {
            await Task.Delay(50, CancellationToken.None);
            throw new IsolationException($"the runtime ended with exit code {_launched.Process.ExitCode}");
        }

        _identity = ProcessIdentity.Of(int.Parse((await File.ReadAllTextAsync(_directory.PidFile, cancellationToken)).Trim(), CultureInfo.InvariantCulture));
        _directory.Complete(Owner, _identity);

        // Into the namespace that the runtime has made, not the other way round: a container may mount /sys only where its user namespace owns its network. Only the agent runs yet, and it does not need it.
        var network = _network is not null && _identity is not null ? _network.GiveVethAsync(_identity.Pid, cancellationToken) : Task.CompletedTask;
        try
        {
            _guest = await ConnectGuestAsync(_pipes, cancellationToken);
        }
        finally
        {
            await network.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        await network;
        _ = WatchAsync(_guest);
        await ReseedAsync(spec.Hostname, Owner.SessionId, keepInterpreters: false, cancellationToken);
    }

    /// <summary>The descriptions of devices are read anew each time: they are generated when a driver is loaded, and a stale one hands out what is another's by now.</summary>
    private string Configuration(MicroVmSpec spec)
    {
        if (spec.Devices.Count > 0 && _host.Runtime.IsGvisor)
        {
            throw new IsolationException("gVisor's kernel drives no devices of the host");
        }

        try
        {
            return ContainerConfig.Write(Describe(spec), new CdiInjector(CdiRegistry.Read(spec.Devices.Count > 0 ? _host.CdiDirectories : [])) { MountNodes = true });
        }
        catch (DeviceException e)
        {
            throw new IsolationException(e.Message, e);
        }
    }

    private ContainerSpec Describe(MicroVmSpec spec) => new()
    {
        Root = ContainerLauncher.RootOf(_directory.DirectoryPath),
        Hostname = spec.Hostname,
        CgroupPath = _host.Cgroups.PathOf(Owner.VmId),
        FirstUserId = _ids.UserId,
        MemoryBytes = (long)spec.MemoryMiB << 20,
        CpuCores = Math.Max(0.1, spec.CpuLimit ?? spec.Vcpus),

        Vcpus = spec.Vcpus,

        // gVisor's kernel and its programs hand over to each other all the time: on one processor each turn would cost a switch of the host's.
        Processors = _host.Runtime.IsGvisor ? "" : _host.Processors.Choose(spec.Vcpus),

        // gVisor needs a thread of the host or two for each of the container's.
        Pids = Math.Clamp(spec.MemoryMiB * 2, 128, 4096) * (_host.Runtime.IsGvisor ? 4 : 1),
        Gvisor = _host.Runtime.IsGvisor,
        SwapLimit = _host.Cgroups.HasSwapLimit,
        IoWeight = _host.Cgroups.HasIoWeight,
        Devices = [.. spec.Devices.Select(d => d.CdiName ?? throw new DeviceException($"Device {d.Address} has no description for containers (CDI)."))],
    };

    private async Task<GuestConnection> ConnectGuestAsync(Stream stream, CancellationToken cancellationToken)
    {
        var options = new GuestConnectionOptions { HelloDeadline = TimeSpan.FromMinutes(5), HelloInterval = TimeSpan.FromMilliseconds(250) };
        if (_origin.Memo is not { } memo)
        {
            Survivors = [.. _origin.Executions.Select(e => new LostExecution(e.ExecutionId))];
            return await GuestConnection.ConnectAsync(stream, Owner.VmId, options, _host.Logger, cancellationToken);
        }

        (var connection, Survivors) = await GuestConnection.RestoreAsync(stream, memo, _origin.Executions, Owner.VmId, options, _host.Logger, cancellationToken);
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

    /// <summary>The agent is the container's first process, and nothing else has its end of the channel: when that closes, the container has ended, or has no use any more.</summary>
    private async Task WatchAsync(GuestConnection guest)
    {
        var closed = await guest.Closed;
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (_identity is { IsRunning: true } && clock.Elapsed < TimeSpan.FromSeconds(1))
        {
            await Task.Delay(5);
        }

        var running = _identity is { IsRunning: true };

        // Who is killed has no last words. A program may have been, at some other time.
        var said = _errors.Read(3);
        var reason = running ? $"its agent is out of reach: {closed}"
            : said.Length == 0 && _host.Cgroups.OutOfMemoryKills(Owner.VmId) > 0 ? "the kernel ended it: the memory limit of the session was reached"
            : "it ended by itself" + (said.Length > 0 ? ": " + said : "");
        if (_exited.TrySetResult(new MicroVmExit(false, reason)))
        {
            await _host.Cgroups.KillAsync(Owner.VmId);
        }
    }
}
