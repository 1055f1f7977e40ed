using System.Buffers;
using System.Text;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Secrets;

/// <inheritdoc cref="ISecretSwap"/>
public sealed class SecretSwap : ISecretSwap
{
    private const string Basic = "Basic ";
    private const int MaxBasic = 32 * 1024;
    private readonly Bound[] _secrets;
    private readonly RedactionTable _table;

    // A placeholder is found by what all begin with; searching for each of them in every header would cost more.
    private static readonly SearchValues<string> AnyPlaceholder = SearchValues.Create([Placeholders.Prefix], StringComparison.OrdinalIgnoreCase);

    /// <summary>Makes one of a session's secrets.</summary>
    /// <param name="secrets">The secrets; none is fine.</param>
    /// <exception cref="ArgumentException">A host is no host, or is <c>*</c>; a placeholder is not of the form of <see cref="Placeholders.New"/>.</exception>
    public SecretSwap(IReadOnlyList<SecretBinding> secrets)
    {
        ArgumentNullException.ThrowIfNull(secrets);
        _secrets = [.. secrets.Select(s => new Bound(s))];
        _table = RedactionTable.From(secrets);
    }

    /// <summary>That of a session without secrets.</summary>
    public static SecretSwap None { get; } = new([]);

    /// <inheritdoc/>
    public bool Concerns(string host)
    {
        ArgumentNullException.ThrowIfNull(host);
        return Array.Exists(_secrets, s => s.IsFor(host));
    }

    /// <inheritdoc/>
    public string Header(string host, string name, string value, ICollection<string> used)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(value);
        ArgumentNullException.ThrowIfNull(used);
        var replaced = value.Contains(Placeholders.Prefix, StringComparison.Ordinal) ? Replace(host, name, value, used) : value;
        if (DecodeBasic(replaced) is not { } credentials || !credentials.Contains(Placeholders.Prefix, StringComparison.Ordinal))
        {
            return replaced;
        }

        var inner = Replace(host, name, credentials, used);
        return inner == credentials ? replaced : Basic + Convert.ToBase64String(Encoding.UTF8.GetBytes(inner));
    }

    /// <inheritdoc/>
    public bool IsMisused(string host, string name, string value)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(value);
        if (_secrets.Length == 0)
        {
            return false;
        }

        // A target may be encoded; so may what a program puts into a header of its own.
        var decoded = value.Contains('%', StringComparison.Ordinal) ? Uri.UnescapeDataString(value) : value;
        return IsMisusedIn(host, value) || IsMisusedIn(host, decoded) || (DecodeBasic(value) is { } credentials && IsMisusedIn(host, credentials));
    }

    /// <inheritdoc/>
    public string Redact(string value)
    {
        ArgumentNullException.ThrowIfNull(value);
        if (_secrets.Length == 0 || value.Length == 0)
        {
            return value;
        }

        // Headers are bytes; a value that was read as Latin-1 may hold a secret's UTF-8.
        var isLatin = value.All(c => c <= 0xff);
        var text = RedactIn(value, Encoding.UTF8);
        text = isLatin && text == value && value.Any(c => c > 0x7f) ? RedactIn(value, Encoding.Latin1) : text;
        return DecodeBasic(text) is { } credentials && RedactIn(credentials, Encoding.UTF8) is var inner && inner != credentials ? Basic + Convert.ToBase64String(Encoding.UTF8.GetBytes(inner)) : text;
    }

    /// <inheritdoc/>
    public IBodyRedactor? ForBody() => _secrets.Length == 0 ? null : new BodyRedactor(_table);

    private string RedactIn(string value, Encoding encoding)
    {
        using var output = new MemoryStream();
        var bytes = encoding.GetBytes(value);
        _table.Replace(bytes, isEnd: true, output);
        return output.GetBuffer().AsSpan(0, (int)output.Length).SequenceEqual(bytes) ? value : encoding.GetString(output.GetBuffer(), 0, (int)output.Length);
    }

    private string Replace(string host, string name, string value, ICollection<string> used)
    {
        foreach (var secret in _secrets)
        {
            if (secret.IsFor(host) && secret.MayStandIn(name) && value.Contains(secret.Binding.Placeholder, StringComparison.Ordinal))
            {
                value = value.Replace(secret.Binding.Placeholder, secret.Binding.Value, StringComparison.Ordinal);
                if (!used.Contains(secret.Binding.Name))
                {
                    used.Add(secret.Binding.Name);
                }
            }
        }

        return value;
    }

    // Letters of either case: a host name in a target makes small ones of them.
    private bool IsMisusedIn(string host, string text) =>
        text.AsSpan().ContainsAny(AnyPlaceholder) && Array.Exists(_secrets, s => !s.IsFor(host) && text.Contains(s.Binding.Placeholder, StringComparison.OrdinalIgnoreCase));

    private static string? DecodeBasic(string value)
    {
        if (!value.StartsWith(Basic, StringComparison.OrdinalIgnoreCase) || value.Length > MaxBasic)
        {
            return null;
        }

        var encoded = value.AsSpan(Basic.Length).Trim();
        var bytes = new byte[encoded.Length];
        return Convert.TryFromBase64Chars(encoded, bytes, out var count) ? Encoding.UTF8.GetString(bytes, 0, count) : null;
    }

    private sealed class Bound
    {
        private readonly HostPattern[] _hosts;

        public Bound(SecretBinding binding)
        {
            Binding = binding;
            _hosts = [.. binding.Hosts.Select(HostPattern.Parse)];
            if (Array.Exists(_hosts, h => h.IsAny))
            {
                throw new ArgumentException($"Secret {binding.Name} is bound to every host; name the hosts it is for.", nameof(binding));
            }

            if (!Placeholders.IsOne(binding.Placeholder))
            {
                throw new ArgumentException($"Secret {binding.Name} has a placeholder of another form than Placeholders.New makes.", nameof(binding));
            }
        }

        public SecretBinding Binding { get; }

        public bool IsFor(string host) => Array.Exists(_hosts, h => h.Matches(host));

        public bool MayStandIn(string header) => Binding.Headers.Any(h => h.Equals(header, StringComparison.OrdinalIgnoreCase));
    }
}
