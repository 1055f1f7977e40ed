using System.Text;

namespace Sandbox.Gateway.Auth;

/// <summary>
/// Our API keys as E2B's SDKs take them: they refuse what is not <c>e2b_</c> and hexadecimal digits before they send anything. The digits are our key's own characters, so that it is one key with two spellings.
/// </summary>
internal static class E2bKeys
{
    private const string Prefix = "e2b_";

    /// <summary>A key in E2B's spelling.</summary>
    public static string Write(string key) => Prefix + Convert.ToHexStringLower(Encoding.ASCII.GetBytes(key));

    /// <summary>A key in ours. What is no key in E2B's spelling comes back as it is.</summary>
    public static string Read(string key)
    {
        if (!key.StartsWith(Prefix, StringComparison.Ordinal) || key.Length is < 6 or > 500)
        {
            return key;
        }

        try
        {
            return Encoding.ASCII.GetString(Convert.FromHexString(key.AsSpan(Prefix.Length)));
        }
        catch (FormatException)
        {
            return key;
        }
    }
}
