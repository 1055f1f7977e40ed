using Sandbox.Abstractions;
using Sandbox.Egress.Policy;

namespace Sandbox.Grains.Sessions.Validation;

/// <summary>Checks an owner's answer to an auditor.</summary>
internal static class EgressDecisionValidation
{
    private const int LongestPath = 1024;

    public static void Check(EgressDecision decision)
    {
        ArgumentNullException.ThrowIfNull(decision);

        // An answer is a rule for one host, so what holds for those holds for it.
        PolicyValidation.Validate(new EgressPolicy
        {
            Rules = [new EgressRule { Action = EgressAction.Allow, Host = decision.Host, Methods = decision.Method is { } method ? [method] : [], Paths = decision.Path is { } path ? [path] : [] }],
        });
        if (decision.Host.Contains('*', StringComparison.Ordinal))
        {
            throw SandboxException.Invalid("host", "An answer is for one host by its whole name; put patterns into the policy.");
        }

        if (decision.Path is { Length: > LongestPath })
        {
            throw SandboxException.Invalid("path", $"A path has at most {LongestPath} characters.");
        }
    }
}
