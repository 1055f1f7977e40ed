using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Egress.Audit;

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

        AuditVerdict verdict;
        try
        {
            verdict = await exchange.Context.Auditor.JudgeAsync(await DescribeAsync(exchange, form, body), http.RequestAborted);
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

    private static async Task<AuditRequest> DescribeAsync(Exchange exchange, RequestForm form, PeekedBody body)
    {
        var request = exchange.Http.Request;
        var encoding = request.Headers.ContentEncoding.ToString();
        var seen = body.Peeked;
        var isCut = !body.IsComplete && !form.IsUpgrade;
        if (!Compression.IsNone(encoding) && await Compression.ReadAsync(encoding, seen, AuditRequest.BodyLimit, exchange.Http.RequestAborted) is { } plain)
        {
            seen = plain;
        }

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
