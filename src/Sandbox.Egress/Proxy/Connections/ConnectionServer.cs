using System.Net.Sockets;
using System.Security.Authentication;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Proxy.Tls;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>Decides what becomes of a connection, and does it. Stateless; one for each host.</summary>
/// <param name="host">What all sessions share.</param>
internal sealed class ConnectionServer(ProxyHost host)
{
    /// <summary>What settled what no policy can change.</summary>
    public const string BuiltIn = "built-in";

    private const int TlsPort = 443;
    private readonly OpeningReader _reader = new(host.Options, host.Time);

    /// <summary>Serves a connection until it is over, and writes its line into the log. Does not fail.</summary>
    public async Task ServeAsync(GuestConnection connection)
    {
        try
        {
            await JudgeAsync(connection);
        }
        catch (Exception e) when (e is SocketException or IOException or OperationCanceledException or ObjectDisposedException or TimeoutException or AuthenticationException)
        {
            var end = connection.End;
            connection.Log(end?.Outcome ?? EgressOutcome.Failed, end?.By ?? BuiltIn, end?.Reason ?? $"The guest's connection broke off: {e.Message}");
            Splice.Reset(connection.Socket);
        }
    }

    private async Task JudgeAsync(GuestConnection connection)
    {
        connection.Socket.NoDelay = true;
        if (!host.Options.MayReach(connection.Destination.Address))
        {
            Refuse(connection, new UnreachableAddressException(connection.Destination.Address).Message);
            return;
        }

        await BeginAsync(connection, await _reader.ReadAsync(connection.Socket, connection.Destination.Port, mustBegin: false, connection.Ended));
    }

    private async Task BeginAsync(GuestConnection connection, Opening opening)
    {
        switch (opening.Kind)
        {
            case OpeningKind.Gone:
                connection.Log(EgressOutcome.Failed, BuiltIn, "The guest closed the connection before it sent anything that could be judged.");
                return;
            case OpeningKind.Bad:
                await RefuseTlsAsync(connection, EgressOutcome.Denied, BuiltIn, opening.Fault, TlsAlert.DecodeError);
                return;
            case OpeningKind.Http:
                await InterceptAsync(connection, opening, null);
                return;
            case OpeningKind.Tls:
                await ServeTlsAsync(connection, opening, opening.Hello!);
                return;
            default:
                await ServeRawAsync(connection, opening);
                return;
        }
    }

    private async Task ServeTlsAsync(GuestConnection connection, Opening opening, ClientHello hello)
    {
        var context = connection.Session.Context;
        var name = hello.ServerName;
        var subject = new Subject(name, name is not null && context.Names.Holds(name, connection.Destination.Address), connection.Destination);
        var judgement = connection.Judge(subject);
        if (judgement.IsDenied)
        {
            var reason = name is null ? $"The ClientHello names no server (SNI), and the address by itself is not permitted: {judgement.Verdict.Reason}" : judgement.Verdict.Reason;
            await RefuseTlsAsync(connection, EgressOutcome.Denied, judgement.Verdict.By, reason, name is null ? TlsAlert.UnrecognizedName : TlsAlert.AccessDenied);
            return;
        }

        // A ClientHello that only pretends (GREASE, which some clients send always) cannot be told from one whose true name is hidden, so all are refused.
        const string Encrypted = "The ClientHello is encrypted (ECH), or pretends to be: which host it is for cannot be seen. Turn ECH off in the client.";
        if (hello.IsEncrypted && !Tolerate(connection, ref judgement, Encrypted))
        {
            await RefuseTlsAsync(connection, EgressOutcome.Denied, BuiltIn, Encrypted, TlsAlert.AccessDenied);
            return;
        }

        if (judgement.Verdict.Intercept || (subject.PinnedName is { } pinned && context.Secrets.Concerns(pinned)))
        {
            await InterceptAsync(connection, opening, name ?? connection.Destination.Address.ToString());
            return;
        }

        await SpliceAsync(connection, opening, judgement.Verdict);
    }

    private async Task ServeRawAsync(GuestConnection connection, Opening opening)
    {
        // The port is TLS's: what is something else there hides behind it.
        const string NoTls = "What was sent to port 443 is not TLS.";
        var name = connection.Session.Context.Names.NameOf(connection.Destination.Address);
        var judgement = connection.Judge(new Subject(name, name is not null, connection.Destination));
        if (judgement.IsDenied)
        {
            Refuse(connection, judgement.Verdict.Reason, judgement.Verdict.By);
            return;
        }

        if (connection.Destination.Port == TlsPort && !Tolerate(connection, ref judgement, NoTls))
        {
            Refuse(connection, NoTls);
            return;
        }

        if (judgement.Verdict.Intercept && opening.Kind == OpeningKind.Silent)
        {
            // What could pass must be TLS or HTTP, and a guest begins those: it is only slow, and says itself who it is for.
            connection.Forget();
            await BeginAsync(connection, await _reader.ReadAsync(connection.Socket, connection.Destination.Port, mustBegin: true, connection.Ended));
            return;
        }

        const string Opaque = "The policy has what goes to this host looked into, and this is neither TLS nor HTTP.";
        if (judgement.Verdict.Intercept && !Tolerate(connection, ref judgement, Opaque))
        {
            Refuse(connection, Opaque, judgement.Verdict.By);
            return;
        }

        await SpliceAsync(connection, opening, judgement.Verdict);
    }

    private async Task SpliceAsync(GuestConnection connection, Opening opening, ConnectionVerdict verdict)
    {
        connection.IsSpliced = true;

        // A change of policy that came before this was set has not seen that the connection is spliced.
        if (connection.Tolerated is null && connection.Reconsider(connection.Session.Context))
        {
            connection.Ended.ThrowIfCancellationRequested();
        }

        Socket upstream;
        try
        {
            upstream = await host.Dialer.ConnectAsync(connection.Destination, connection.Ended);
        }
        catch (Exception e) when (e is SocketException or IOException or TimeoutException)
        {
            connection.Log(e is UnreachableAddressException ? EgressOutcome.Denied : EgressOutcome.Failed, verdict.By, $"{connection.Destination} could not be reached: {e.Message}");
            Splice.Reset(connection.Socket);
            return;
        }

        var reason = verdict.Reason;
        try
        {
            await Splice.RunAsync(connection.Socket, upstream, opening.Bytes, connection.Traffic, connection.Ended);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            reason = $"{reason} One side broke it off.";
        }
        finally
        {
            upstream.Dispose();
        }

        var end = connection.End;
        connection.Log(end?.Outcome ?? verdict.Outcome, end?.By ?? verdict.By, end?.Reason ?? reason);
    }

    private async Task InterceptAsync(GuestConnection connection, Opening opening, string? tlsName)
    {
        if (host.Interceptor is not { } interceptor || (tlsName is not null && connection.Session.Certificates is null))
        {
            const string None = "The policy has what goes to this host looked into, and the tenant has no certificate authority here to do it with.";
            await RefuseTlsAsync(connection, EgressOutcome.Failed, BuiltIn, None, TlsAlert.AccessDenied);
            return;
        }

        var stream = new GuestStream(connection.Socket, opening.Bytes, connection.Traffic, connection.Ended);
        if (tlsName is null)
        {
            await interceptor.ServeAsync(connection, stream, default, isTls: false);
        }
        else
        {
            await using var tls = await GuestTls.AcceptAsync(connection, stream, tlsName);
            await interceptor.ServeAsync(connection, tls, tls.NegotiatedApplicationProtocol, isTls: true);
        }

        if (connection.End is { } end)
        {
            connection.Log(end.Outcome ?? EgressOutcome.Allowed, end.By ?? BuiltIn, end.Reason);
        }
        else if (connection.RequestCount == 0)
        {
            connection.Log(EgressOutcome.Failed, BuiltIn, "No request came over the connection.");
        }
    }

    /// <summary>Lets something through because the policy is only tried out; otherwise it is to be refused.</summary>
    private static bool Tolerate(GuestConnection connection, ref Judgement judgement, string reason)
    {
        if (connection.Session.Context.Decisions.Source.Mode != EgressMode.DryRun)
        {
            return false;
        }

        connection.Tolerated = reason;
        judgement = judgement with { Verdict = judgement.Verdict with { Outcome = EgressOutcome.WouldDeny, By = BuiltIn, Reason = reason } };
        return true;
    }

    private static void Refuse(GuestConnection connection, string reason, string by = BuiltIn)
    {
        connection.Log(EgressOutcome.Denied, by, reason);
        Splice.Reset(connection.Socket);
    }

    private static async Task RefuseTlsAsync(GuestConnection connection, EgressOutcome outcome, string by, string reason, byte alert)
    {
        connection.Log(outcome, by, reason);
        await TlsAlert.SendAsync(connection.Socket, alert, connection.Ended);
        await Lingering.CloseAsync(connection.Socket, null, connection.Ended);
    }
}
