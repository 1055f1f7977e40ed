using System.Collections.Concurrent;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Connections;
using Sandbox.Guest.Protocol;
using ErrorCode = Sandbox.Guest.Protocol.ErrorCode;
using GuestException = Sandbox.Isolation.Guest.GuestException;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Connections to ports of this host's guests, and watches on their directories.</summary>
internal sealed partial class HostRuntime
{
    /// <summary>What nobody has used for so long is ended.</summary>
    private static readonly TimeSpan UnusedConnection = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan ConnectionSweep = TimeSpan.FromSeconds(15);
    private readonly ConcurrentDictionary<string, (LiveMicroVm Machine, LivePort Port)> _ports = new(StringComparer.Ordinal);

    /// <summary>Connects to a port in a guest; returns the key of the connection's grain.</summary>
    public async Task<string> OpenPortAsync(string vmId, long generation, int port)
    {
        var machine = Get(vmId, generation);
        try
        {
            var opened = await machine.Connections.AddPortAsync(async () =>
            {
                var guest = await AskGuestAsync(ct => machine.Machine!.Guest.OpenPortAsync(port, ct));
                return new LivePort(SandboxIds.NewConnection(), machine.SessionId, guest, _clock);
            });
            _ports[opened.Id] = (machine, opened);
            if (machine.Ended.IsCompleted || machine.Save is { Stop: true, Occupies: true })
            {
                // Its end has looked for connections before this one was there.
                await ClosePortAsync(machine.SessionId, opened.Id);
                throw SandboxException.Unavailable($"MicroVM {vmId} ended, or is being paused.");
            }

            return $"{HostId}/{machine.SessionId}/{opened.Id}";
        }
        catch (GuestException e) when (e.Code == ErrorCode.NotFound)
        {
            throw new SandboxException(SandboxErrorCode.NotFound, $"Nobody listens on port {port} in session {machine.SessionId}. The program must listen on 127.0.0.1, ::1 or all addresses.", "port");
        }
        catch (GuestException e)
        {
            throw Executions.GuestRequests.ToSandbox(e);
        }
    }

    /// <summary>A connection of a session, by its id, or <see langword="null"/> if it has ended.</summary>
    public LivePort? FindPort(string sessionId, string id) =>
        _ports.TryGetValue(id, out var found) && found.Port.SessionId == sessionId && found.Machine.Connections.Ports.ContainsKey(id) ? found.Port : null;

    /// <summary>Ends a connection. Ending an ended one is no error.</summary>
    public async Task ClosePortAsync(string sessionId, string id)
    {
        if (_ports.TryGetValue(id, out var found) && found.Port.SessionId == sessionId)
        {
            _ports.TryRemove(id, out _);
            await found.Machine.Connections.RemovePortAsync(id);
        }
    }

    /// <summary>Watches a directory in a guest; returns the watch's number.</summary>
    public Task<long> WatchDirectoryAsync(string vmId, long generation, string path, bool recursive, string? user)
    {
        var machine = Get(vmId, generation);
        return machine.Connections.AddWatchAsync(async () =>
        {
            var guest = machine.Machine!.Guest;
            var found = (await AskAsync(ct => guest.RequestAsync(new Request { Stat = new StatPath { Path = path, User = user ?? "", Follow = true } }, ct))).File;
            if (found is not { Type: FileType.Directory })
            {
                throw SandboxException.Invalid("path", $"'{path}' is no directory; only directories are watched.");
            }

            var watch = await AskAsync(ct => guest.WatchAsync(new Watch { Path = path, User = user ?? "", Recursive = recursive }, ct));
            return new LiveWatch(watch, found.Path, _clock);
        });
    }

    /// <summary>The next events of a watch.</summary>
    public async Task<FileEventPage> ReadWatchAsync(string vmId, long generation, long number, TimeSpan wait)
    {
        var machine = Get(vmId, generation);
        if (!machine.Connections.Watches.TryGetValue(number, out var watch))
        {
            throw SandboxException.NotFound("There is no such watch any more: it was ended, or nobody read it for 5 minutes.");
        }

        var page = await watch.ReadAsync(wait);
        if (page.Closed)
        {
            await machine.Connections.RemoveWatchAsync(number);
        }

        return page;
    }

    /// <summary>Ends a watch.</summary>
    public Task UnwatchAsync(string vmId, long generation, long number) => Get(vmId, generation).Connections.RemoveWatchAsync(number);

    private async Task ExpireConnectionsAsync(CancellationToken cancellationToken)
    {
        List<LiveMicroVm> live;
        lock (_gate)
        {
            live = [.. _machines.All];
        }

        foreach (var machine in live)
        {
            await machine.Connections.ExpireAsync(UnusedConnection);
        }

        foreach (var (id, (machine, _)) in _ports)
        {
            if (!machine.Connections.Ports.ContainsKey(id))
            {
                _ports.TryRemove(id, out _);
            }
        }
    }
}
