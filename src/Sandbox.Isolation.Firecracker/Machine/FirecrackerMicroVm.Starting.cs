using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Api;
using Sandbox.Isolation.Firecracker.Memory.Userfault;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker.Machine;

// From nothing to an agent that has answered.
internal sealed partial class FirecrackerMicroVm
{
    /// <summary>How long a process that hangs up may take to end.</summary>
    private static readonly TimeSpan DyingTime = TimeSpan.FromSeconds(1);

    /// <summary>Boots one, or loads what it comes from. If that fails, nothing of it is left; its origin is given up too.</summary>
    /// <param name="host">What all machines share.</param>
    /// <param name="spec">What is started.</param>
    /// <param name="kernel">The image's kernel as Firecracker loads it; only for a boot.</param>
    /// <param name="origin">What it comes from.</param>
    /// <param name="deadline">How long it may take.</param>
    /// <param name="logger">Where its life is logged.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<FirecrackerMicroVm> StartAsync(
        FirecrackerHost host, MicroVmSpec spec, string kernel, MachineOrigin origin, TimeSpan deadline, ILogger logger, CancellationToken cancellationToken)
    {
        FirecrackerMicroVm vm;
        try
        {
            var directory = host.DirectoryOf(spec.Owner.VmId);
            directory.Create(spec.Owner);
            try
            {
                vm = new FirecrackerMicroVm(spec.Owner, host, directory, origin, logger);
            }
            catch
            {
                directory.RemoveAll();
                throw;
            }
        }
        catch
        {
            origin.Memory?.Dispose();
            throw;
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(deadline);
        using var gone = CancellationTokenSource.CreateLinkedTokenSource(limit.Token);
        try
        {
            await vm.BringUpAsync(spec, kernel, gone);
            return vm;
        }
        catch (Exception e)
        {
            // A refusal says most. A connection that broke says least: how the process ended is known a moment later.
            var refused = e is IsolationException { InnerException: null };
            if (e is IOException or IsolationException { InnerException: HttpRequestException })
            {
                await Task.WhenAny(vm.Exited, Task.Delay(DyingTime, CancellationToken.None));
            }

            var died = !refused && vm.Exited.IsCompleted ? (await vm.Exited).Reason : null;
            var tail = vm._console.Read();
            var errors = vm._errors.Read();
            await vm.DisposeAsync();
            if (cancellationToken.IsCancellationRequested)
            {
                throw new OperationCanceledException($"Starting microVM {spec.Owner.VmId} was cancelled.", e, cancellationToken);
            }

            var what = died ?? (e is OperationCanceledException && limit.IsCancellationRequested ? $"it did not answer within {deadline.TotalSeconds:0.#} s" : e.Message.TrimEnd('.'));
            throw new IsolationException(
                $"MicroVM {spec.Owner.VmId} did not start: {what}."
                + (errors.Length > 0 ? $" Firecracker said: {errors}." : "") + (tail.Length > 0 ? $" Its console ended with: {tail}" : ""), e);
        }
    }

    private async Task BringUpAsync(MicroVmSpec spec, string kernel, CancellationTokenSource gone)
    {
        var cancellationToken = gone.Token;
        await LaunchAsync(spec, kernel);
        _ = CancelWhenGoneAsync(gone);

        _api = new FirecrackerClient(_directory.Api);
        await UntilListeningAsync(_api.DescribeAsync, cancellationToken);
        if (_origin.Memory is not null)
        {
            await LoadAsync(_api, cancellationToken);
            await _api.ResumeAsync(cancellationToken);
        }
        else
        {
            await ConfigureAsync(_api, spec, cancellationToken);
            await _api.StartAsync(cancellationToken);
        }

        var stream = await DialAsync(cancellationToken);
        _guest = await ConnectGuestAsync(stream, spec.Owner.VmId, cancellationToken);
        await ReseedAsync(spec.Hostname, spec.Owner.SessionId, keepInterpreters: false, cancellationToken);
    }

    private async Task LaunchAsync(MicroVmSpec spec, string kernel)
    {
        _diskPath = spec.DiskPath;
        _directory.CreateRoot();
        var limits = new CgroupLimits((long)(spec.MemoryMiB + _host.Options.OverheadMiB) << 20, Math.Max(0.1, spec.CpuLimit ?? spec.Vcpus), 64 + (spec.Vcpus * 2));
        var procs = _host.Cgroups.Create(spec.Owner.VmId, limits);
        var files = Place(spec, kernel);
        if (_origin.Memory is not null)
        {
            await WriteStateAsync();
            if (_host.Options.LoadedMemory == LoadedMemory.Userfault)
            {
                _pages = new PageServer(_directory.InRoot(MachineFiles.Pager), _origin.Memory, _origin.Facts!.MemoryBytes, _user?.UserId, _logger);
                _ = WatchPagesAsync(_pages);
            }
        }

        _process = _user is { UserId: var userId }
            ? await Launcher.StartJailedAsync(
                _host.Options, JailerArguments.Build(_host.Options, spec.Owner.VmId, userId, _directory.WorkPath, _host.Cgroups, _host.CgroupParent, limits), _directory, procs, userId, files)
            : await Launcher.StartBareAsync(_host.Options, spec.Owner.VmId, _directory, procs, files);
        _process.StandardInput.Close();
        _identity = ProcessIdentity.Of(_process.Id);
        _directory.Complete(spec.Owner, _identity);
        _ = _console.DrainAsync(_process.StandardOutput.BaseStream);
        var errors = _errors.DrainAsync(_process.StandardError.BaseStream);
        _ = WatchAsync(_process, errors);
    }

    private List<PlacedFile> Place(MicroVmSpec spec, string kernel)
    {
        var image = TemplateImage.Load(spec.ImageDirectory);
        List<PlacedFile> files =
        [
            new(Path.Combine(spec.ImageDirectory, image.Root), MachineFiles.Root),
            new(_origin.DiskPath ?? spec.DiskPath, MachineFiles.Disk, Writable: true),
        ];
        if (_origin.Memory is null)
        {
            files.AddRange([new(kernel, MachineFiles.Kernel), new(Path.Combine(spec.ImageDirectory, image.Initramfs), MachineFiles.Initramfs)]);
        }
        else if (_host.Options.LoadedMemory == LoadedMemory.File)
        {
            files.Add(new(_origin.Memory.Path, MachineFiles.Memory));
        }

        return files;
    }

    private async Task WriteStateAsync()
    {
        var path = Path.Combine(_directory.RootPath, MachineFiles.State);
        await File.WriteAllBytesAsync(path, _origin.State.ToArray());
        File.SetUnixFileMode(path, UnixFileMode.UserRead);
        if (_user is { UserId: var userId })
        {
            Launcher.Give(path, userId);
        }
    }

    /// <summary>No network interface, no metadata service, no balloon: what is not told is not there.</summary>
    private async Task ConfigureAsync(FirecrackerClient api, MicroVmSpec spec, CancellationToken cancellationToken)
    {
        var options = _host.Options;
        await api.PutMachineAsync(new MachineConfiguration(spec.Vcpus, spec.MemoryMiB, Smt: false, TrackDirtyPages: _host.KnowsHoles), cancellationToken);
        await api.PutBootSourceAsync(new BootSource(MachineFiles.Kernel, MachineFiles.Initramfs, BootArguments.Line), cancellationToken);
        await api.PutDriveAsync(
            new Drive("root", IsRootDevice: true, IsReadOnly: true, MachineFiles.Root, "Unsafe", "Sync", DriveLimiter.Of(options.RootDriveLimits)), cancellationToken);

        // Written back when the guest asks for it: a snapshot's disk is read from the file.
        await api.PutDriveAsync(
            new Drive("data", IsRootDevice: false, IsReadOnly: false, MachineFiles.Disk, "Writeback", "Sync", DriveLimiter.Of(options.DataDriveLimits)), cancellationToken);
        await api.PutVsockAsync(new Vsock(BootArguments.GuestCid, MachineFiles.Vsock), cancellationToken);
        await api.PutEntropyAsync(new EntropyDevice(null), cancellationToken);
    }

    private Task LoadAsync(FirecrackerClient api, CancellationToken cancellationToken)
    {
        var memory = _host.Options.LoadedMemory == LoadedMemory.File ? new MemoryBackend("File", MachineFiles.Memory) : new MemoryBackend("Uffd", MachineFiles.Pager);
        bool? track = _host.KnowsHoles ? true : null;
        var byNewName = _host.Version.TracksByNewName;
        return api.LoadSnapshotAsync(
            new SnapshotLoad(MachineFiles.State, memory, byNewName ? track : null, byNewName ? null : track, ResumeVm: false), cancellationToken);
    }

    private Task<NetworkStream> DialAsync(CancellationToken cancellationToken) =>
        VsockDialer.ConnectUntilAcceptedAsync(_directory.Vsock, BootArguments.AgentPort, _host.Options.VsockDeadline, cancellationToken);

    private async Task<GuestConnection> ConnectGuestAsync(NetworkStream stream, string name, CancellationToken cancellationToken)
    {
        // After a snapshot the channel is cut and joined again; one that is cut otherwise is given up that much later, or when the machine is gone.
        var options = new GuestConnectionOptions { HelloDeadline = TimeSpan.FromMinutes(5), HelloInterval = TimeSpan.FromMilliseconds(250), ReconnectWindow = ResumeDeadline };
        if (_origin.Memo is not { } memo)
        {
            return await GuestConnection.ConnectAsync(stream, name, options, _logger, cancellationToken);
        }

        (var connection, Survivors) = await GuestConnection.RestoreAsync(stream, memo, _origin.Executions, name, options, _logger, cancellationToken);
        return connection;
    }

    private async Task CancelWhenGoneAsync(CancellationTokenSource gone)
    {
        await Exited;
        try
        {
            await gone.CancelAsync();
        }
        catch (ObjectDisposedException)
        {
            // It had started.
        }
    }

    private static async Task UntilListeningAsync(Func<CancellationToken, Task> connect, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                await connect(cancellationToken);
                return;
            }
            catch (SocketException)
            {
                await Task.Delay(5, cancellationToken);
            }
        }
    }
}
