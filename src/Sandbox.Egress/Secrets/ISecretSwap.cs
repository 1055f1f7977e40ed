namespace Sandbox.Egress.Secrets;

/// <summary>
/// Puts secrets in the place of their placeholders in requests, and placeholders in the place of secrets in responses. For one session; immutable. A placeholder is worth nothing outside of the proxy: it is put in only for the
/// hosts and headers that its secret is bound to, and only over TLS.
/// </summary>
public interface ISecretSwap
{
    /// <summary>Whether any secret is bound to this host: its connections must be intercepted then.</summary>
    bool Concerns(string host);

    /// <summary>A header's value as it is sent on. <paramref name="used"/> gets the names of the secrets that were put in. <c>Basic</c> credentials are looked into as well.</summary>
    string Header(string host, string name, string value, ICollection<string> used);

    /// <summary>Whether a request carries, in a header or its target, the placeholder of a secret that is not bound to this host: a program that was talked into sending it elsewhere.</summary>
    bool IsMisused(string host, string name, string value);

    /// <summary>A header's value of a response as the guest may see it.</summary>
    string Redact(string value);

    /// <summary>
    /// Takes echoes out of a response's body while it streams. One for each body, not thread-safe: give each piece, get what may go on, and at the end what is left. A placeholder may be longer or shorter than its secret: the body's length changes.
    /// <see langword="null"/> where the session has no secrets.
    /// </summary>
    IBodyRedactor? ForBody();
}

/// <summary>Replaces secrets in a stream of bytes; holds back only what could be the beginning of a secret: at most the longest form of the longest secret (as it is, in base64, URL-encoded, escaped as in JSON) less one byte.</summary>
public interface IBodyRedactor
{
    /// <summary>Takes a piece; returns what may go on. The result is valid until the next call.</summary>
    ReadOnlyMemory<byte> Push(ReadOnlySpan<byte> piece);

    /// <summary>What was held back.</summary>
    ReadOnlyMemory<byte> Finish();
}

/// <summary>One secret of a session, with its value. Exists in the memory of the host's process only; <see cref="ToString"/> does not show the value.</summary>
/// <param name="Name">Name.</param>
/// <param name="Placeholder">What the guest has in its place.</param>
/// <param name="Value">The secret.</param>
/// <param name="Hosts">Hosts it is bound to, in the form of a rule's host, never <c>*</c>.</param>
/// <param name="Headers">Headers it may stand in, in lower case.</param>
public sealed record SecretBinding(string Name, string Placeholder, string Value, IReadOnlyList<string> Hosts, IReadOnlyList<string> Headers)
{
    /// <inheritdoc/>
    public override string ToString() => $"secret {Name} for {string.Join(", ", Hosts)}";
}
