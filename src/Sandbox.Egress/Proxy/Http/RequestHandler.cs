using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Egress.Proxy.Connections;
using Yarp.ReverseProxy.Forwarder;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>Judges each request of connections that are looked into, and has it sent on. Stateless; one for each host.</summary>
/// <param name="host">What all sessions share.</param>
/// <param name="forwarder">YARP's.</param>
internal sealed class RequestHandler(ProxyHost host, IHttpForwarder forwarder)
{
    private readonly RequestForwarder _forwarder = new(host.Options, forwarder);
    private readonly RequestAudit _audit = new(host.Options, host.Time);

    /// <summary>Handles a request. Does not fail.</summary>
    public async Task HandleAsync(HttpContext http)
    {
        var connection = http.Features.Get<InterceptedConnection>() ?? throw new InvalidOperationException("A request of no connection.");
        var form = RequestForm.Read(http, connection.Guest.Destination, out var refusal);
        var active = new ActiveRequest(form?.Method ?? http.Request.Method, form?.Path ?? "/", http.Abort);

        // Noted before the policy is read: whoever changes it sees the request, or the request sees the change.
        connection.Guest.Begin(active);
        var exchange = new Exchange(http, connection, connection.Guest.Session.Context, host.Time) { Form = form };
        try
        {
            refusal ??= await ServeAsync(exchange, form!);
            if (refusal is not null)
            {
                (exchange.Outcome, exchange.By, exchange.Reason) = (refusal.Outcome, refusal.By, refusal.Reason);
                await refusal.WriteAsync(http, form?.Host);
            }
        }
        catch (Exception e) when (e is BadHttpRequestException or IOException or OperationCanceledException)
        {
            (exchange.Outcome, exchange.Reason) = (EgressOutcome.Failed, $"The request's body makes no sense, or the guest broke it off: {e.Message}");
            http.Abort();
        }
        catch (Exception e)
        {
            // A fault of ours must not become a request that was sent on without having been judged, nor take the server down.
            host.Logger.LogError(e, "A request of session {Session} failed.", exchange.Context.SessionId);
            (exchange.Outcome, exchange.Reason) = (EgressOutcome.Failed, "The proxy failed.");
            http.Abort();
        }
        finally
        {
            connection.Guest.Finish(active);
            if (active.Ended is { } ended)
            {
                (exchange.Outcome, exchange.Reason) = (EgressOutcome.Denied, ended);
            }

            exchange.Log();
        }
    }

    private async Task<Refusal?> ServeAsync(Exchange exchange, RequestForm form)
    {
        if (Agree(exchange, form, out var subject) is { } misdirected)
        {
            return misdirected;
        }

        // Read again with every request, so that the policy is the one of now.
        exchange.PinnedName = exchange.Connection.IsTls ? subject.PinnedName : null;
        var judgement = exchange.Guest.Judge(subject);
        var verdict = judgement.JudgeRequest(exchange.Context.Decisions, subject.Destination.Port, form.Method, form.Path);
        (exchange.By, exchange.Reason) = (verdict.By, verdict.Reason);
        if (verdict.WouldDeny)
        {
            exchange.Outcome = EgressOutcome.WouldDeny;
        }

        if (verdict.Action == EgressAction.Deny)
        {
            return Refusal.Policy(verdict.By, verdict.Reason);
        }

        if (Misuse(exchange, form) is { } misuse && !exchange.Tolerate(misuse.By, misuse.Reason))
        {
            return misuse;
        }

        var slot = PeekedBody.NoSlot;
        try
        {
            if (verdict.Action == EgressAction.Audit)
            {
                slot = await exchange.Guest.Session.AuditSlots.TakeAsync(exchange.Http.RequestAborted);
                if (await _audit.JudgeAsync(exchange, form, slot) is { } refusal)
                {
                    return refusal;
                }
            }

            return await _forwarder.SendAsync(exchange, form);
        }
        finally
        {
            slot.Dispose();
        }
    }

    /// <summary>The request must be for the host that the connection is for, and that was judged.</summary>
    private static Refusal? Agree(Exchange exchange, RequestForm form, out Subject subject)
    {
        var guest = exchange.Guest;
        var own = guest.Destination.Address.ToString();
        subject = guest.Subject ?? (IPAddress.TryParse(form.Host, out _)
            ? new Subject(null, false, guest.Destination)
            : new Subject(form.Host, exchange.Context.Names.Holds(form.Host, guest.Destination.Address), guest.Destination));
        return form.Host == (subject.Name ?? own)
            ? null
            : Refusal.Misdirected($"The request is for {form.Host}, and the connection was made to {subject.Name ?? own}. One connection serves one host here.");
    }

    private static Refusal? Misuse(Exchange exchange, RequestForm form)
    {
        var secrets = exchange.Context.Secrets;

        // Nothing is put in where others can read along: in clear, no host is one that a secret is for. Saying so is better than a credential that silently does not work.
        var host = exchange.Connection.IsTls ? form.Host : "";
        foreach (var (name, values) in exchange.Http.Request.Headers)
        {
            foreach (var value in values)
            {
                if (value is not null && secrets.IsMisused(host, name, value))
                {
                    return Misused(form.Host, $"the header {name}", exchange.Connection.IsTls);
                }
            }
        }

        return secrets.IsMisused(host, ":path", form.Target) ? Misused(form.Host, "the request's target", exchange.Connection.IsTls) : null;
    }

    private static Refusal Misused(string host, string where, bool isTls) => new(
        StatusCodes.Status403Forbidden,
        "egress_secret_misused",
        ConnectionServer.BuiltIn,
        isTls
            ? $"The placeholder of a secret that is not bound to {host} stands in {where}. Somebody may have talked a program into sending it there."
            : $"The placeholder of a secret stands in {where} of a request to {host} without TLS, where nothing is put in for it.",
        isTls ? "Send it only to hosts that the secret is bound to." : "Use https.");
}
