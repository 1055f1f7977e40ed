using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;
using Yarp.ReverseProxy.Forwarder;

namespace Sandbox.Gateway.Preview;

/// <summary>
/// Forwards HTTP requests and WebSockets to programs in sessions, over the cluster's own connections (<see cref="IPortGrain"/>): there is no network to a guest. One for each gateway. Safe for concurrent use.
/// </summary>
public sealed class PortForwarder : IDisposable
{
    private static readonly TimeSpan TouchPeriod = TimeSpan.FromSeconds(30);
    private readonly IGrainFactory _grains;
    private readonly IHttpForwarder _forwarder;
    private readonly GatewayOptions _options;
    private readonly HttpMessageInvoker _client;

    /// <param name="grains">The way to the sessions.</param>
    /// <param name="forwarder">YARP's (<c>AddHttpForwarder</c>).</param>
    /// <param name="options">Limits.</param>
    public PortForwarder(IGrainFactory grains, IHttpForwarder forwarder, GatewayOptions options)
    {
        ArgumentNullException.ThrowIfNull(grains);
        ArgumentNullException.ThrowIfNull(forwarder);
        ArgumentNullException.ThrowIfNull(options);
        (_grains, _forwarder, _options) = (grains, forwarder, options);
        _client = new HttpMessageInvoker(new SocketsHttpHandler
        {
            UseProxy = false,
            AllowAutoRedirect = false,
            AutomaticDecompression = DecompressionMethods.None,
            UseCookies = false,
            ActivityHeadersPropagator = null,
            ConnectTimeout = TimeSpan.FromSeconds(15),

            // Every request has a connection of its own. Whether one that waits for its next request is still alive only its host knows, too late for programs that close after each answer; and one that
            // is never used twice was opened for whoever uses it. All of a port's stay below what a session may have.
            PooledConnectionLifetime = TimeSpan.Zero,
            MaxConnectionsPerServer = IPortGrain.MaxConnections - 56,
            ConnectCallback = async (context, cancellationToken) =>
                context.InitialRequestMessage.Options.TryGetValue(PortTarget.Key, out var target)
                    ? await target.ConnectAsync(_grains, cancellationToken)
                    : throw new InvalidOperationException("A request to a port that names no session."),
        });
    }

    /// <summary>
    /// Forwards a request, or a WebSocket, to a port of a session and answers with what the program says. The tenant stands in <see cref="TenantContext"/>, and <see cref="WakeContext"/> says whether a paused session
    /// is resumed for it. Path and query go as they are, without <paramref name="prefix"/> and without what is ours (keys, tokens, <c>?wake=</c>). The session is in use as long as this runs.
    /// </summary>
    /// <param name="context">The request. Where it was let in by a token, <see cref="PreviewAccess.Admit"/> has said so.</param>
    /// <param name="sessionId">Session id, checked for its form here.</param>
    /// <param name="port">1 to 65535.</param>
    /// <param name="prefix">The beginning of the request's path that is not the program's; empty: none.</param>
    /// <param name="dedicatedHost">
    /// The request came by a host name that serves nothing but this port. Without one the answer is sent with <c>Content-Security-Policy: sandbox</c>: what a guest says must not be a page of this API's origin.
    /// </param>
    /// <exception cref="SandboxException">There is no such session; it is paused and may not be woken; it has ended. What goes wrong later is a problem in the answer: 502 where nobody listens or the program breaks off.</exception>
    public async Task ForwardAsync(HttpContext context, string sessionId, int port, string prefix = "", bool dedicatedHost = false)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(prefix);
        if (port is < 1 or > ushort.MaxValue)
        {
            throw SandboxException.Invalid("port", $"{port} is outside 1 to {ushort.MaxValue}.");
        }

        // Wakes, counts as use, and is where a tenant who has no business here is turned away.
        var session = await _grains.Session<ISessionPorts>(sessionId).TouchAsync();
        if (PreviewAccess.GrantOf(context) is { } grant && grant.Generation > session.Generation)
        {
            throw new SandboxException(SandboxErrorCode.Unauthenticated, "The preview token is for a later generation of the session than this one.");
        }

        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            limit.MaxRequestBodySize = _options.MaxUploadBytes;
        }

        var target = new PortTarget(sessionId, port, TenantContext.Current!, session.Generation);
        using var over = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        var touching = KeepInUseAsync(sessionId, over.Token);
        var config = new ForwarderRequestConfig
        {
            // A program may be silent for long on purpose (events, a WebSocket); the end of its machine ends the connection anyway.
            ActivityTimeout = TimeSpan.FromHours(1),
            Version = HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        var error = await _forwarder.SendAsync(context, target.Address, _client, config, new PortTransformer(target, prefix, dedicatedHost));
        await over.CancelAsync();
        await touching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await ConcludeAsync(context, error, sessionId, port);
    }

    /// <inheritdoc/>
    public void Dispose() => _client.Dispose();

    private async Task KeepInUseAsync(string sessionId, CancellationToken cancellationToken)
    {
        // One that was paused meanwhile, by somebody who wanted it, stays so.
        WakeContext.Set(false);
        using var timer = new PeriodicTimer(TouchPeriod);
        while (await timer.WaitForNextTickAsync(cancellationToken))
        {
            try
            {
                await _grains.GetGrain<ISessionPorts>(sessionId).TouchAsync();
            }
            catch (Exception e) when (e is SandboxException or TimeoutException or OrleansException)
            {
                // Whatever it is, the connection learns of it by itself.
            }
        }
    }

    private static async Task ConcludeAsync(HttpContext context, ForwarderError error, string sessionId, int port)
    {
        if (context.Response.HasStarted || context.RequestAborted.IsCancellationRequested)
        {
            return;
        }

        if (error == ForwarderError.None)
        {
            // The program's own status without a body must not be taken for one of ours.
            await context.Response.StartAsync(context.RequestAborted);
            return;
        }

        var cause = context.Features.Get<IForwarderErrorFeature>()?.Exception;
        var refusal = Chain(cause).OfType<SandboxException>().FirstOrDefault();
        var problem = refusal switch
        {
            { Code: SandboxErrorCode.NotFound, Field: "port" } => refusal,
            { Code: SandboxErrorCode.NotFound } => new SandboxException(SandboxErrorCode.Unavailable, $"The connection to port {port} of session {sessionId} broke off. Try again."),
            not null => throw refusal,
            null => new SandboxException(SandboxErrorCode.Unavailable, $"The program on port {port} of session {sessionId} did not answer with HTTP, or broke off: {Words(error, cause)}"),
        };
        await Problems.WriteAsync(context, problem, StatusCodes.Status502BadGateway);
    }

    private static string Words(ForwarderError error, Exception? cause) => error switch
    {
        ForwarderError.RequestTimedOut => "it was silent for too long.",
        ForwarderError.NoAvailableDestinations => "it cannot be reached.",
        _ => Chain(cause).LastOrDefault() is IOException ? "its connection was closed." : "its answer makes no sense.",
    };

    private static IEnumerable<Exception> Chain(Exception? e)
    {
        for (; e is not null; e = e.InnerException)
        {
            yield return e;
        }
    }
}
