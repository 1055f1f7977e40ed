using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Qemu.Qmp;

namespace Sandbox.Isolation.Qemu.Machine;

// Saving a booted machine as a golden snapshot, loading one, and the life of a machine of the warm pool.
internal sealed partial class QemuMicroVm
{
    /// <summary>
    /// Stops the machine for good and hands out the state of its CPU and devices; its memory stays with the process and is read by <see cref="OpenMemory"/>.
    /// Only for a machine that was booted: its memory is shared, and so left out of the stream.
    /// </summary>
    public async Task<byte[]> SaveDevicesAsync(CancellationToken cancellationToken)
    {
        var qmp = _qmp!;
        await qmp.ExecuteAsync("stop", null, cancellationToken);
        await qmp.ExecuteAsync("migrate-set-capabilities", IgnoreShared, cancellationToken);
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(_directory.Migration));
        listener.Listen(1);

        // The directory keeps others out; QEMU, which owns it, must be able to connect.
        File.SetUnixFileMode(_directory.Migration, (UnixFileMode)0b110_110_110);
        await qmp.ExecuteAsync("migrate", new Dictionary<string, object> { ["uri"] = "unix:" + _directory.Migration }, cancellationToken);
        using var socket = await listener.AcceptAsync(cancellationToken);
        await using var stream = new NetworkStream(socket);
        using var devices = new MemoryStream();
        await stream.CopyToAsync(devices, cancellationToken);
        var state = (await qmp.ExecuteAsync("query-migrate", null, cancellationToken)).GetProperty("status").GetString();
        while (state is "active" or "setup" or "device")
        {
            await Task.Delay(2, cancellationToken);
            state = (await qmp.ExecuteAsync("query-migrate", null, cancellationToken)).GetProperty("status").GetString();
        }

        return state == "completed" ? devices.ToArray() : throw new IsolationException($"QEMU could not save microVM {Owner.VmId}: its migration ended as '{state}'");
    }

    /// <summary>The memory of a booted machine.</summary>
    public SafeFileHandle OpenMemory()
    {
        var descriptors = $"/proc/{_process!.Id}/fd";
        foreach (var link in Directory.EnumerateFiles(descriptors))
        {
            if (new System.IO.FileInfo(link).LinkTarget is { } target && target.Contains("memfd:memory-backend-memfd", StringComparison.Ordinal))
            {
                return File.OpenHandle(link);
            }
        }

        throw new IsolationException($"The memory of microVM {Owner.VmId} was not found among the descriptors of its process.");
    }

    private static readonly Dictionary<string, object> IgnoreShared = new()
    {
        ["capabilities"] = new[] { new Dictionary<string, object> { ["capability"] = "x-ignore-shared", ["state"] = true } },
    };

    private async Task LoadDevicesAsync(QmpClient qmp, ReadOnlyMemory<byte> devices, CancellationToken cancellationToken)
    {
        await qmp.ExecuteAsync("migrate-set-capabilities", IgnoreShared, cancellationToken);
        await qmp.ExecuteAsync("migrate-incoming", new Dictionary<string, object> { ["uri"] = "unix:" + _directory.Migration }, cancellationToken);
        using (var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(_directory.Migration), cancellationToken);
            await using var stream = new NetworkStream(socket);
            await stream.WriteAsync(devices, cancellationToken);
            socket.Shutdown(SocketShutdown.Send);
        }

        while (true)
        {
            var status = (await qmp.ExecuteAsync("query-status", null, cancellationToken)).GetProperty("status").GetString();
            if (status is "paused" or "prelaunch" or "postmigrate")
            {
                return;
            }

            if (status is not "inmigrate" || Exited.IsCompleted)
            {
                throw new IsolationException($"it did not take the saved state of its devices: QEMU is '{status}'");
            }

            await Task.Delay(1, cancellationToken);
        }
    }

    /// <summary>Lets a clone run what a claim will need, so that the pages it touches and the code it runs are there, and stops it.</summary>
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
        await _qmp!.ExecuteAsync("stop", null, cancellationToken);
    }

    public async Task ClaimAsync(MicroVmClaim claim, CancellationToken cancellationToken)
    {
        var began = System.Diagnostics.Stopwatch.GetTimestamp();
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
            File.Move(_diskPath, claim.DiskPath);
            (Owner, _diskPath) = (owner, claim.DiskPath);
            await _qmp!.ExecuteAsync("cont", null, limit.Token);

            // Its interpreters got seeds of their own when it was cloned, and it has stood still since: nobody has a copy of it.
            await ReseedAsync(claim.Hostname, claim.SessionId, keepInterpreters: true, limit.Token);
            Report("pool", StartReport.Accelerator, 1, System.Diagnostics.Stopwatch.GetElapsedTime(began));
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested && e is IOException or QmpException or OperationCanceledException or GuestException)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} of the warm pool could not be claimed: {e.Message}", e);
        }
    }

    /// <summary>A claim takes milliseconds; a machine that needs this long is not going to answer.</summary>
    private static readonly TimeSpan ClaimDeadline = TimeSpan.FromSeconds(5);
}
