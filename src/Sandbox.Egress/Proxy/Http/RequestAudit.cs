using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Proxy.Connections;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>Has an auditor judge a request before anything of it is sent on.</summary>
/// <param name="options">Bounds.</param>
/// <param name="time">Clock.</param>
internal sealed class RequestAudit(ProxyOptions options, TimeProvider time)
{
    private const string NoJudge = "auditor";

    /// <summary>Judges. <see langword="null"/>: it may be sent on, from <see cref="HttpRequest.Body"/> as it is then.</summary>
    /// <param name="exchange">The request.</param>
    /// <param name="form">Its form.</param>
    /// <param name="slot">Given back when its body need not be held any more.</param>
    public async Task<Refusal?> JudgeAsync(Exchange exchange, RequestForm form, IDisposable slot)
    {
        var http = exchange.Http;
        var body = new PeekedBody(http.Request.Body, slot);
        if (!form.IsUpgrade)
        {
            await body.FillAsync(AuditRequest.BodyLimit, options.AuditBodyWait, time, http.RequestAborted);
            http.Request.Body = body;
        }

        var seen = await LookIntoAsync(exchange, body);
        if (seen is null)
        {
            var hidden = $"The body is compressed as {http.Request.Headers.ContentEncoding}, or says so, and cannot be looked into.";
            (exchange.By, exchange.Reason) = (ConnectionServer.BuiltIn, hidden);
            return exchange.Tolerate(ConnectionServer.BuiltIn, hidden) ? null : Refusal.Policy(ConnectionServer.BuiltIn, hidden) with { Advice = "Send it as it is, or compressed with gzip, br or deflate." };
        }

        AuditVerdict verdict;
        try
        {
            verdict = await exchange.Context.Auditor.JudgeAsync(Describe(exchange, form, body, seen.Value), http.RequestAborted);
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            throw;
        }
        catch (Exception e)
        {
            // Whatever befell the auditor, the policy has said what then becomes of requests.
            return Unjudged(exchange, e);
        }

        (exchange.By, exchange.Reason) = (verdict.By, verdict.Reason);
        switch (verdict.Decision)
        {
            case AuditDecision.Allow:
                return null;
            case AuditDecision.Redact:
                return Redact(exchange, body, verdict);
            case AuditDecision.Ask:
                var asked = Refusal.Policy(verdict.By, verdict.Reason) with { Outcome = EgressOutcome.Asked, Error = "egress_asked", Advice = "The session's owner was asked. Try again once it was permitted." };
                return exchange.Tolerate(verdict.By, verdict.Reason) ? null : asked;
            default:
                return exchange.Tolerate(verdict.By, verdict.Reason) ? null : Refusal.Policy(verdict.By, verdict.Reason);
        }
    }

    private static Refusal? Redact(Exchange exchange, PeekedBody body, AuditVerdict verdict)
    {
        var isWhole = body.IsComplete && Compression.IsNone(exchange.Http.Request.Headers.ContentEncoding);
        if (!isWhole)
        {
            var reason = $"{verdict.Reason} It cannot be taken out of a body that is long, compressed or streamed.";
            return exchange.Tolerate(verdict.By, reason) ? null : Refusal.Policy(verdict.By, reason);
        }

        if (exchange.Tolerate(verdict.By, verdict.Reason))
        {
            return null;
        }

        try
        {
            body.Blank(verdict.Redactions ?? []);
        }
        catch (ArgumentOutOfRangeException)
        {
            return Refusal.Policy(verdict.By, $"{verdict.Reason} The auditor named parts that the body does not have.");
        }

        exchange.Outcome = EgressOutcome.Redacted;
        return null;
    }

    private static Refusal? Unjudged(Exchange exchange, Exception e)
    {
        var reason = $"The auditor failed: {e.GetType().Name}.";
        (exchange.By, exchange.Reason) = (NoJudge, reason);
        if (exchange.Context.Decisions.Source.Auditing.Otherwise == EgressAction.Allow || exchange.Tolerate(NoJudge, reason))
        {
            return null;
        }

        return Refusal.Policy(NoJudge, reason) with { Advice = "Try again; if it stays so, tell the operator." };
    }

    /// <summary>What the body holds, as far as it was read; <see langword="null"/>: that cannot be told.</summary>
    private static async Task<ReadOnlyMemory<byte>?> LookIntoAsync(Exchange exchange, PeekedBody body)
    {
        var encoding = exchange.Http.Request.Headers.ContentEncoding.ToString();
        if (body.Peeked.IsEmpty || Compression.IsNone(encoding))
        {
            return body.Peeked;
        }

        // In two steps: "null" by itself becomes an empty body, which is something else.
        var plain = await Compression.ReadAsync(encoding, body.Peeked, body.IsComplete, AuditRequest.BodyLimit, exchange.Http.RequestAborted);
        return plain is null ? default(ReadOnlyMemory<byte>?) : plain.AsMemory();
    }

    private static AuditRequest Describe(Exchange exchange, RequestForm form, PeekedBody body, ReadOnlyMemory<byte> seen)
    {
        var request = exchange.Http.Request;
        var isCut = !body.IsComplete && !form.IsUpgrade;
        return new AuditRequest
        {
            Tenant = exchange.Context.Tenant,
            SessionId = exchange.Context.SessionId,
            Scheme = request.Scheme,
            Host = form.Host,
            Port = exchange.Guest.Destination.Port,
            Method = form.Method,
            Target = form.Target,
            Headers = [.. request.Headers.SelectMany(h => h.Value.Select(v => KeyValuePair.Create(h.Key, v ?? "")))],
            Body = seen[..Math.Min(seen.Length, AuditRequest.BodyLimit)],
            BodyIsCut = isCut || seen.Length > AuditRequest.BodyLimit,
            BodyLength = request.ContentLength,
        };
    }
}
