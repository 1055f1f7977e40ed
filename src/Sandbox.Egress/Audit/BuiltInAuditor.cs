using System.Text;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Audit;

/// <summary>
/// The rules that are built in. Denies credentials, archives, forged requests to inner addresses, scans and beacons; has personal data taken out. Knows nothing in favour of a request: <see cref="AuditDecision.Allow"/> is
/// "nothing against it". Bounded in time by the body's length.
/// </summary>
/// <param name="patterns">The session's own.</param>
/// <param name="addresses">What counts as public; <see langword="null"/>: <see cref="PublicAddresses.Default"/>.</param>
public sealed class BuiltInAuditor(TrafficPatterns patterns, PublicAddresses? addresses = null) : IEgressAuditor
{
    private const string By = "built-in";
    private readonly PublicAddresses _addresses = addresses ?? PublicAddresses.Default;

    // What programs identify themselves with to the host that they talk to; a credential is at home there.
    private static readonly HashSet<string> Credentials = new(StringComparer.OrdinalIgnoreCase) { "authorization", "cookie", "proxy-authorization", "x-api-key", "api-key", "x-auth-token", "private-token", "x-goog-api-key", "x-amz-security-token" };

    /// <inheritdoc/>
    public Task<AuditVerdict> JudgeAsync(AuditRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return Task.FromResult(Judge(request));
    }

    private AuditVerdict Judge(AuditRequest request)
    {
        if (patterns.Observe(request.Host, request.Port, request.BodyLength ?? request.Body.Length) is { } pattern)
        {
            return Deny(pattern);
        }

        var body = request.Body.Length > AuditRequest.BodyLimit ? request.Body[..AuditRequest.BodyLimit] : request.Body;
        if (Archives.KindOf(body.Span) is { } archive && (request.BodyIsCut || (request.BodyLength ?? body.Length) >= Archives.MinBytes || body.Length >= Archives.MinBytes))
        {
            return Deny($"the upload of an archive ({archive})");
        }

        // One character for each byte: places in the text are places in the body.
        var text = Encoding.Latin1.GetString(body.Span);
        var target = Readings(Decoded(request.Target));
        var readings = Readings(text);
        if ((ForgedTargets.Find(target, _addresses) ?? ForgedTargets.Find(readings, _addresses)) is { } forged)
        {
            return Deny($"a request that names {forged}");
        }

        if (SecretPatterns.Find(target) is [var inTarget, ..])
        {
            return Deny($"{inTarget.Kind} in the address");
        }

        foreach (var (name, value) in request.Headers)
        {
            if (!Credentials.Contains(name) && SecretPatterns.Find(value) is [var inHeader, ..])
            {
                return Deny($"{inHeader.Kind} in a header");
            }
        }

        if (SecretPatterns.Find(readings) is [var inBody, ..])
        {
            return Deny($"{inBody.Kind} in the body");
        }

        if (PersonalData.Find(target) is [var person, ..])
        {
            return Deny($"{person.Kind} in the address");
        }

        var findings = PersonalData.Find(text);
        if (findings.Count == 0 && readings.Length > text.Length && PersonalData.Find(readings[text.Length..]) is [var encoded, ..])
        {
            // There are no places in the body as it came that could be overwritten.
            return Deny($"{encoded.Kind} in an encoded body");
        }

        if (findings.Count == 0)
        {
            return new AuditVerdict(AuditDecision.Allow, "nothing against it", By);
        }

        var kinds = string.Join(", ", findings.Select(f => f.Kind).Distinct());
        return request.BodyIsCut
            ? Deny($"{kinds} in a body that is too long to be redacted")
            : new AuditVerdict(AuditDecision.Redact, $"{kinds} in the body", By, Merge(findings));
    }

    /// <summary>The target as it may be read further on: once and twice decoded, next to how it came.</summary>
    private static string Decoded(string target)
    {
        var once = Uri.UnescapeDataString(target.Length > 16 * 1024 ? target[..(16 * 1024)] : target);
        return once == target ? target : $"{target}\n{once}\n{Uri.UnescapeDataString(once)}";
    }

    /// <summary>A body as its receiver may read it: as a form and as JSON, next to how it came.</summary>
    private static string Readings(string text)
    {
        var all = text;
        if (text.Contains('%', StringComparison.Ordinal))
        {
            all += "\n" + Uri.UnescapeDataString(text);
        }

        return text.Contains("\\u", StringComparison.Ordinal) ? all + "\n" + UnicodeEscape.Replace(text, m => ((char)Convert.ToUInt16(m.Value[2..], 16)).ToString()) : all;
    }

    private static readonly System.Text.RegularExpressions.Regex UnicodeEscape = SecretPatterns.Make(@"\\u[0-9A-Fa-f]{4}");

    private static Range[] Merge(List<Finding> findings)
    {
        var merged = new List<Range>();
        foreach (var range in findings.Select(f => f.At).OrderBy(r => r.Start.Value))
        {
            if (merged.Count > 0 && range.Start.Value <= merged[^1].End.Value)
            {
                merged[^1] = merged[^1].Start..Math.Max(merged[^1].End.Value, range.End.Value);
            }
            else
            {
                merged.Add(range);
            }
        }

        return [.. merged];
    }

    private static AuditVerdict Deny(string reason) => new(AuditDecision.Deny, reason, By);
}
