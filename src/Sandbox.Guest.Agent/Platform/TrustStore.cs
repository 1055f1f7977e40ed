using System.Text;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Platform;

/// <summary>
/// The certificate authorities that the guest's programs trust: Debian's bundle, with the one that the door to the network signs with at its end. Programs are told of the bundle by variables whose value is
/// always the same, so that a Python that was started before the authority was known finds it too, at its next connection (Node reads its variable only when it starts: its kernel helps itself).
/// </summary>
internal static class TrustStore
{
    /// <summary>What nearly every TLS library of Debian reads.</summary>
    public const string Bundle = "/etc/ssl/certs/ca-certificates.crt";

    /// <summary>Where Debian expects what is added; the JavaScript kernel reads it too.</summary>
    private const string OwnFile = "/usr/local/share/ca-certificates/sandbox-egress.crt";
    private const string Begin = "# sandbox-egress: begin";
    private const string End = "# sandbox-egress: end";
    private const int MaxBytes = 64 * 1024;
    private const UnixFileMode Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;

    /// <summary>Variables that name the bundle to OpenSSL, Python's requests, curl, Node, pip and git. Those that bring a bundle of their own (Python's certifi, Node) would not look at Debian's.</summary>
    public static IReadOnlyList<string> Variables { get; } = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "GIT_SSL_CAINFO"];

    private static readonly Lock Turn = new();

    /// <summary>Adds the authority in the place of an earlier one. By hand: <c>update-ca-certificates</c> takes seconds on an emulated processor. It finds ours too when it is run later, by the file.</summary>
    /// <exception cref="AgentException">That is no certificate, or the files cannot be written.</exception>
    public static void Trust(string pem) => Trust(pem, Bundle, OwnFile);

    /// <summary>The same for other files.</summary>
    internal static void Trust(string pem, string bundle, string ownFile)
    {
        var text = Check(pem);
        lock (Turn)
        {
            try
            {
                var old = File.Exists(bundle) ? File.ReadAllText(bundle, Encoding.Latin1) : "";
                var earlier = File.Exists(ownFile) ? File.ReadAllText(ownFile, Encoding.Latin1) : "";
                var kept = Without(old, earlier);
                var all = $"{kept}{(kept.Length == 0 || kept.EndsWith('\n') ? "" : "\n")}{Begin}\n{text}{End}\n";
                if (all != old)
                {
                    Replace(bundle, all);
                }

                if (text != earlier)
                {
                    Replace(ownFile, text);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new AgentException(ErrorCode.Internal, $"The certificate authority could not be added to {bundle}: {e.Message}");
            }
        }
    }

    /// <summary>The bundle without ours: between our marks, or without them where update-ca-certificates has made it anew.</summary>
    private static string Without(string bundle, string earlier)
    {
        var begin = bundle.IndexOf(Begin, StringComparison.Ordinal);
        var end = begin < 0 ? -1 : bundle.IndexOf(End, begin, StringComparison.Ordinal);
        if (end >= 0)
        {
            bundle = bundle[..begin] + bundle[(end + End.Length)..].TrimStart('\n');
        }

        return earlier.Length == 0 ? bundle : bundle.Replace(earlier, "", StringComparison.Ordinal);
    }

    /// <summary>A reader sees the old file or the new one, and a link in its place is not followed.</summary>
    private static void Replace(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var partial = path + ".sandbox-new";
        File.Delete(partial);
        File.WriteAllText(partial, text, Encoding.Latin1);
        File.SetUnixFileMode(partial, Mode);
        File.Move(partial, path, overwrite: true);
    }

    private static string Check(string pem)
    {
        var lines = pem.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        var good = pem.Length <= MaxBytes && lines is ["-----BEGIN CERTIFICATE-----", .., "-----END CERTIFICATE-----"]
            && lines.All(l => l is "-----BEGIN CERTIFICATE-----" or "-----END CERTIFICATE-----" || l.All(c => char.IsAsciiLetterOrDigit(c) || c is '+' or '/' or '='));
        return good ? string.Join('\n', lines) + "\n" : throw new AgentException(ErrorCode.InvalidArgument, $"A certificate authority is given as PEM of certificates alone, at most {MaxBytes} bytes.");
    }
}
