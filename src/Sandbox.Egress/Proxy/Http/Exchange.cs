using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Egress.Proxy.Connections;
using Sandbox.Egress.Secrets;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>One request and its answer: what is known of it, and becomes its line in the log.</summary>
internal sealed class Exchange
{
    private readonly long _started;
    private readonly TimeProvider _time;
    private long _up;
    private long _down;

    public Exchange(HttpContext http, InterceptedConnection connection, ProxyContext context, TimeProvider time)
    {
        (Http, Connection, Context, _time) = (http, connection, context, time);
        _started = time.GetTimestamp();
    }

    public HttpContext Http { get; }

    public InterceptedConnection Connection { get; }

    public GuestConnection Guest => Connection.Guest;

    /// <summary>What is decided by, from its beginning to its end.</summary>
    public ProxyContext Context { get; }

    public RequestForm? Form { get; set; }

    /// <summary>The host that it goes to, where its DNS name is more than a claim.</summary>
    public string? PinnedName { get; set; }

    public EgressOutcome Outcome { get; set; } = EgressOutcome.Allowed;

    public string By { get; set; } = "";

    public string Reason { get; set; } = "";

    /// <summary>Names of secrets that were put in.</summary>
    public List<string> Used { get; } = [];

    /// <summary>Secrets may be in play: those of the session that are bound to the host.</summary>
    public bool HasSecrets => PinnedName is { } name && Context.Secrets.Concerns(name);

    /// <summary>For its body, if echoes are to be taken out of it.</summary>
    public IBodyRedactor? NewRedactor() => HasSecrets ? Context.Secrets.ForBody() : null;

    public void CountUp(int bytes) => Interlocked.Add(ref _up, bytes);

    public void CountDown(int bytes) => Interlocked.Add(ref _down, bytes);

    /// <summary>Lets something pass that would be refused if the policy were enforced. False: it is.</summary>
    public bool Tolerate(string by, string reason)
    {
        if (Context.Decisions.Source.Mode != EgressMode.DryRun)
        {
            return false;
        }

        (Outcome, By, Reason) = (EgressOutcome.WouldDeny, by, reason);
        return true;
    }

    public void Log()
    {
        var destination = Guest.Destination;
        var path = Form?.Path;
        Context.Log.Write(new EgressRecord
        {
            Kind = EgressRecordKind.Request,
            Outcome = Outcome,
            Host = Form?.Host ?? Guest.Subject?.Name,
            Address = destination.Address.ToString(),
            Port = destination.Port,
            Method = Form?.Method ?? (Http.Request.Method.Length <= 32 ? Http.Request.Method : Http.Request.Method[..32]),
            Path = path?.Length > 1024 ? path[..1024] : path,
            Status = Http.Response.StatusCode,
            By = By,
            Reason = Reason,
            BytesUp = Interlocked.Read(ref _up),
            BytesDown = Interlocked.Read(ref _down),
            Duration = _time.GetElapsedTime(_started),
            Secrets = [.. Used.Distinct(StringComparer.Ordinal)],
        });
    }
}
