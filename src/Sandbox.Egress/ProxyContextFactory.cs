using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Proxy;
using Sandbox.Egress.Secrets;

namespace Sandbox.Egress;

/// <summary>Makes what a session's proxy decides by from its settings. One for a host; safe for concurrent use.</summary>
/// <param name="http">For the model's endpoint; <see langword="null"/>: one that follows no redirections and uses no proxy.</param>
/// <param name="addresses">What counts as public; <see langword="null"/>: <see cref="PublicAddresses.Default"/>.</param>
/// <param name="logger">For judges that fail.</param>
public sealed class ProxyContextFactory(HttpClient? http = null, PublicAddresses? addresses = null, ILogger? logger = null)
{
    // Its time limit is the judge's own. A redirection would take the key elsewhere.
    private readonly HttpClient _http = http ?? new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false, UseCookies = false, PooledConnectionLifetime = TimeSpan.FromMinutes(5) }) { Timeout = Timeout.InfiniteTimeSpan };

    /// <summary>Makes a context. Its <see cref="ProxyContext.Decisions"/> are a <see cref="CompiledPolicy"/>, for the DNS and the firewall as well.</summary>
    /// <param name="tenant">Tenant.</param>
    /// <param name="sessionId">Session.</param>
    /// <param name="settings">Policy, secrets, model.</param>
    /// <param name="names">What our DNS has told the session.</param>
    /// <param name="log">The session's log.</param>
    /// <param name="memory">What its judges remember.</param>
    /// <param name="asked">Told of each request that the owner is to be asked about. Must not block.</param>
    /// <exception cref="SandboxException">The policy is not valid, or names a secret that is not there.</exception>
    public ProxyContext Create(string tenant, string sessionId, EgressSettings settings, IPinnedNames names, IEgressLog log, AuditMemory memory, Action<AuditRequest, AuditVerdict>? asked = null)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(memory);
        var decisions = new CompiledPolicy(settings.Policy, addresses);
        return new ProxyContext
        {
            Tenant = tenant,
            SessionId = sessionId,
            Decisions = decisions,
            Secrets = new SecretSwap([.. settings.Policy.Secrets.Select((name, i) => Find(settings.Secrets, name, i))]),
            Auditor = new CompositeAuditor(settings.Policy.Auditing, new BuiltInAuditor(memory.Patterns, addresses), memory.Owner, settings.Model is { } model ? memory.Model(model, _http) : null, asked, logger),
            Names = names,
            Log = log,
        };
    }

    private static SecretBinding Find(IReadOnlyList<SecretBinding> secrets, string name, int index) =>
        secrets.FirstOrDefault(s => s.Name == name) ?? throw SandboxException.Invalid($"egress.secrets[{index}]", $"There is no secret '{name}'; make it first, or leave it out of the policy.");
}
