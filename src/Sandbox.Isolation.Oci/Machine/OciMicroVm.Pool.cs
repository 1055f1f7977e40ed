using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Oci.Hosting;

namespace Sandbox.Isolation.Oci.Machine;

// The life of a container of the warm pool.
internal sealed partial class OciMicroVm
{
    /// <summary>A claim takes milliseconds; a container that needs this long is not going to answer.</summary>
    private static readonly TimeSpan ClaimDeadline = TimeSpan.FromSeconds(5);

    /// <summary>Lets it run what a claim will need, so that the pages it touches and the files it reads are there, and stops it.</summary>
    public async Task ParkAsync(CancellationToken cancellationToken)
    {
        var execution = await _guest!.StartExecutionAsync(
            new StartExecution { ExecutionId = "park", Command = new Command { Argv = { "/bin/sh", "-c", "echo" } } }, cancellationToken);
        await foreach (var e in execution.Events.WithCancellation(cancellationToken))
        {
            await execution.AcknowledgeAsync(e.Seq, cancellationToken);
        }

        // An answer after the last acknowledgement: nothing is under way in the channel when it stops.
        await _guest.RequestAsync(new Request { Metrics = new GetMetrics() }, cancellationToken);
        await _host.Cgroups.FreezeAsync(Owner.VmId, cancellationToken);
    }

    public async Task ClaimAsync(MicroVmClaim claim, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        if (Exited.IsCompleted)
        {
            throw new IsolationException($"Container {Owner.VmId} of the warm pool is dead: {(await Exited).Reason}");
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
            _host.Cgroups.Thaw(Owner.VmId);
            if (!_host.Runtime.IsGvisor)
            {
                // The agent may not: the name belongs to a namespace over which it has no power. In gVisor it may.
                await RenameAsync(claim.Hostname);
            }

            await ReseedAsync(claim.Hostname, claim.SessionId, keepInterpreters: true, limit.Token);
            Report("pool", Stopwatch.GetElapsedTime(began));
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested && e is IOException or UnauthorizedAccessException or OperationCanceledException or GuestException or Win32Exception)
        {
            throw new IsolationException($"Container {Owner.VmId} of the warm pool could not be claimed: {e.Message}", e);
        }
    }

    /// <summary>Gives a container another host name from outside.</summary>
    private Task RenameAsync(string hostname)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var pid = _identity?.Pid ?? throw new IOException("its first process is not known");

        // A thread of its own: it cannot come back from the namespace.
        new Thread(() =>
        {
            try
            {
                using var name = File.OpenHandle(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/ns/uts"));
                Kernel.Join(name, Kernel.NewUtsNamespace);
                Kernel.SetHostName(hostname);
                done.SetResult();
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        })
        { IsBackground = true, Name = "host name" }.Start();
        return done.Task;
    }
}
