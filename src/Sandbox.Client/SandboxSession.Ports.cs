using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <content>Ports of programs inside it.</content>
public sealed partial class SandboxSession
{
    private ISessionPorts Ports => _grains.GetGrain<ISessionPorts>(Id);

    /// <summary>
    /// Connects to a TCP port that a program in the session listens on, on its loopback address. Resumes a paused session if it may. The connection ends with the microVM, so with a pause; while it is in use, say so
    /// with <see cref="TouchAsync"/>, or the session may be found idle.
    /// </summary>
    /// <param name="port">1 to 65535.</param>
    /// <param name="cancellationToken">Gives up waiting for the answer.</param>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/> with field <c>port</c>: nobody listens; <see cref="SandboxErrorCode.ResourceExhausted"/>: it has 256 connections.</exception>
    public async Task<PortStream> OpenPortAsync(int port, CancellationToken cancellationToken = default)
    {
        var key = await Caller.RetryAsync(() => Ports.OpenPortAsync(port), cancellationToken);
        return new PortStream(_grains.GetGrain<IPortGrain>(key), Client.Tenant);
    }

    /// <summary>Says that the session is in use; resumes it if it is paused and the call may.</summary>
    public Task<SessionInfo> TouchAsync(CancellationToken cancellationToken = default) => Caller.RetryAsync(() => Ports.TouchAsync(), cancellationToken);
}
