using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Egress.Audit;

/// <summary>
/// Verdicts of requests that carry the same. The key is a hash of all that could carry something: host, method, path with its short numbers taken out, query, headers and body. Bounded; safe for concurrent use.
/// </summary>
internal sealed class VerdictCache(TimeSpan keep, TimeProvider time)
{
    private const int Capacity = 512;

    // They differ by themselves and carry nothing.
    private static readonly HashSet<string> Passing = new(StringComparer.OrdinalIgnoreCase) { "date", "content-length" };
    private readonly Lock _gate = new();
    private readonly Dictionary<string, (AuditVerdict Verdict, DateTimeOffset Until)> _verdicts = new(StringComparer.Ordinal);

    public AuditVerdict? Find(string key)
    {
        lock (_gate)
        {
            return _verdicts.TryGetValue(key, out var found) && found.Until > time.GetUtcNow() ? found.Verdict : null;
        }
    }

    public void Keep(string key, AuditVerdict verdict)
    {
        lock (_gate)
        {
            var now = time.GetUtcNow();
            if (_verdicts.Count >= Capacity)
            {
                foreach (var old in _verdicts.OrderBy(v => v.Value.Until).Take(Capacity / 4).Select(v => v.Key).ToArray())
                {
                    _verdicts.Remove(old);
                }
            }

            _verdicts[key] = (verdict, now + keep);
        }
    }

    public static string KeyOf(AuditRequest request)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var query = request.Target.IndexOf('?', StringComparison.Ordinal);
        Add(hash, request.Scheme, request.Host, request.Port.ToString(null as IFormatProvider), request.Method, PathShape(query < 0 ? request.Target : request.Target[..query]), query < 0 ? "" : request.Target[query..]);
        foreach (var (name, value) in request.Headers.Where(h => !Passing.Contains(h.Key)).OrderBy(h => h.Key, StringComparer.OrdinalIgnoreCase))
        {
            Add(hash, name.ToLowerInvariant(), value);
        }

        hash.AppendData(request.Body.Span);
        return Convert.ToHexString(hash.GetHashAndReset());
    }

    /// <summary>A path with its short numbers taken out: pages of a list are alike. Longer ones, and letters, could carry something.</summary>
    private static string PathShape(string path) => string.Join('/', path.Split('/').Select(s => s.Length is > 0 and <= 6 && s.All(char.IsAsciiDigit) ? "#" : s));

    // With its length before each part, so that two requests cannot be put together to the same bytes.
    private static void Add(IncrementalHash hash, params ReadOnlySpan<string> parts)
    {
        foreach (var part in parts)
        {
            var bytes = Encoding.UTF8.GetBytes(part);
            hash.AppendData(BitConverter.GetBytes(bytes.Length));
            hash.AppendData(bytes);
        }
    }
}
