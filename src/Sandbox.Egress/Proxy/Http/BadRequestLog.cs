using System.Collections.Concurrent;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Abstractions;
using Sandbox.Egress.Proxy.Connections;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>
/// Takes note of requests that Kestrel refuses by itself, which no handler of ours sees: it tells of them nowhere but in its log. Everything else that it logs is dropped, as it would bring what guests send into the host's logs.
/// </summary>
internal sealed class BadRequestLog : ILoggerFactory, ILogger
{
    private const string Category = "Microsoft.AspNetCore.Server.Kestrel.BadRequests";
    private readonly ConcurrentDictionary<string, InterceptedConnection> _connections = new(StringComparer.Ordinal);

    public void Add(InterceptedConnection connection) => _connections[connection.ConnectionId] = connection;

    public void Remove(InterceptedConnection connection) => _connections.TryRemove(connection.ConnectionId, out _);

    public ILogger CreateLogger(string categoryName) => categoryName == Category ? this : NullLogger.Instance;

    public void AddProvider(ILoggerProvider provider)
    {
        // There is nobody else to tell.
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (exception is not BadHttpRequestException bad || state is not IReadOnlyList<KeyValuePair<string, object?>> values
            || values.FirstOrDefault(v => v.Key == "ConnectionId").Value is not string id || !_connections.TryGetValue(id, out var connection))
        {
            return;
        }

        // What follows a colon quotes the request.
        var reason = bad.Message.Split(':', 2)[0].TrimEnd('.');
        var guest = connection.Guest;
        guest.NoteMalformed();
        guest.Session.Context.Log.Write(new EgressRecord
        {
            Kind = EgressRecordKind.Request,
            Outcome = EgressOutcome.Denied,
            Host = guest.Subject?.Name,
            Address = guest.Destination.Address.ToString(),
            Port = guest.Destination.Port,
            Status = bad.StatusCode,
            By = ConnectionServer.BuiltIn,
            Reason = $"The request is not well-formed: {reason}.",
        });
    }

    public void Dispose()
    {
        // Nothing is held.
    }
}
