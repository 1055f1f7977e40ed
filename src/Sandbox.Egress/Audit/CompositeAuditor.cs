using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Audit;

/// <summary>
/// Asks one judge after another: the built-in rules, whose denial or redaction is final; what the owner has answered before; the model; and where nobody has judged, <see cref="EgressAuditing.Otherwise"/>. Fails only when it is
/// cancelled.
/// </summary>
/// <param name="auditing">What the policy wants.</param>
/// <param name="builtIn">The built-in rules.</param>
/// <param name="owner">The owner's answers.</param>
/// <param name="model">The model, or <see langword="null"/> where none is set up.</param>
/// <param name="asked">Told of each request that its owner is to be asked about. Must not block.</param>
/// <param name="logger">For judges that fail.</param>
public sealed partial class CompositeAuditor(EgressAuditing auditing, IEgressAuditor builtIn, OwnerDecisions owner, IEgressAuditor? model = null, Action<AuditRequest, AuditVerdict>? asked = null, ILogger? logger = null) : IEgressAuditor
{
    private const string By = "auditor";
    private readonly ILogger _logger = logger ?? NullLogger.Instance;

    /// <inheritdoc/>
    public async Task<AuditVerdict> JudgeAsync(AuditRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (auditing.BuiltIn)
        {
            var verdict = await TryAsync(builtIn, request, cancellationToken).ConfigureAwait(false);
            if (verdict is null)
            {
                // The built-in rules cannot be passed by having them fail.
                return new AuditVerdict(AuditDecision.Deny, "the built-in rules failed on it", "built-in");
            }

            if (verdict.Decision != AuditDecision.Allow)
            {
                return verdict;
            }
        }

        if (owner.Find(request.Host, request.Method, request.Target) is { } answered)
        {
            return new AuditVerdict(answered ? AuditDecision.Allow : AuditDecision.Deny, answered ? "its owner allowed it" : "its owner denied it", "owner");
        }

        var reason = "nobody judges it";
        if (auditing.Model && model is not null)
        {
            try
            {
                var verdict = await model.JudgeAsync(request, cancellationToken).ConfigureAwait(false);
                if (verdict.Decision == AuditDecision.Ask)
                {
                    asked?.Invoke(request, verdict);
                }

                return verdict;
            }
            catch (AuditFailedException exception)
            {
                reason = exception.Message;
                LogFailed(_logger, request.SessionId, exception.Message);
            }
            catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
            {
                // A judge of another make may fail with anything; the request is then judged by nobody.
                reason = "its judge failed";
                LogBroken(_logger, request.SessionId, exception);
            }
        }

        return new AuditVerdict(auditing.Otherwise == EgressAction.Allow ? AuditDecision.Allow : AuditDecision.Deny, reason, By);
    }

    private async Task<AuditVerdict?> TryAsync(IEgressAuditor auditor, AuditRequest request, CancellationToken cancellationToken)
    {
        try
        {
            return await auditor.JudgeAsync(request, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            // Whatever a hostile body had them stumble over.
            LogBroken(_logger, request.SessionId, exception);
            return null;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "A request of session {Session} could not be judged: {Reason}.")]
    private static partial void LogFailed(ILogger logger, string session, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "A judge of session {Session} failed.")]
    private static partial void LogBroken(ILogger logger, string session, Exception exception);
}
