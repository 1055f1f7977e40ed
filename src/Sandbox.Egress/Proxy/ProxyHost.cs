using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Egress.Proxy.Connections;
using Sandbox.Egress.Proxy.Http;

namespace Sandbox.Egress.Proxy;

/// <summary>What the proxies of all sessions on a host share: bounds, the way out, the server of what is looked into. One for each host; safe for concurrent use. Sessions are to be disposed of before it.</summary>
public sealed class ProxyHost : IAsyncDisposable
{
    private ProxyHost(ProxyOptions options, IUpstreamDialer dialer, TimeProvider time, ILogger logger)
    {
        (Options, Dialer, Time, Logger) = (options, dialer, time, logger);
        Connections = new ConnectionServer(this);
    }

    /// <summary>Bounds.</summary>
    public ProxyOptions Options { get; }

    internal IUpstreamDialer Dialer { get; }

    internal TimeProvider Time { get; }

    internal ILogger Logger { get; }

    internal ConnectionServer Connections { get; }

    internal HttpInterceptor? Interceptor { get; private set; }

    /// <summary>Starts it.</summary>
    /// <param name="options">Bounds; unset: the defaults.</param>
    /// <param name="dialer">The way out; unset: from the host's own network.</param>
    /// <param name="time">Clock.</param>
    /// <param name="loggers">Where faults of the proxy itself are written; what guests do is in their sessions' logs.</param>
    public static async Task<ProxyHost> StartAsync(ProxyOptions? options = null, IUpstreamDialer? dialer = null, TimeProvider? time = null, ILoggerFactory? loggers = null)
    {
        options ??= new ProxyOptions();
        loggers ??= NullLoggerFactory.Instance;
        var host = new ProxyHost(options, dialer ?? new UpstreamDialer(options), time ?? TimeProvider.System, loggers.CreateLogger<ProxyHost>());
        host.Interceptor = await HttpInterceptor.StartAsync(host);
        return host;
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => Interceptor?.DisposeAsync() ?? ValueTask.CompletedTask;
}
