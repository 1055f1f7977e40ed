using System.Security.Cryptography;
using System.Text.RegularExpressions;

namespace Sandbox.Grains.Hosts.Leases;

/// <summary>A host's id: made once, kept in its data directory, the same after every restart (a silo address is not).</summary>
internal static partial class HostIdentity
{
    private const string FileName = "host-id";

    /// <summary>Reads or makes the id. An id that is configured wins and is not written.</summary>
    /// <exception cref="InvalidDataException">The configured or stored id has not the form of a host id.</exception>
    public static string LoadOrCreate(HostOptions options)
    {
        if (options.HostId.Length > 0)
        {
            return Checked(options.HostId, "the configured host id");
        }

        Directory.CreateDirectory(options.DataDirectory);
        var path = Path.Combine(options.DataDirectory, FileName);
        if (!File.Exists(path))
        {
            // Written beside and moved, so that a crash leaves no half id; "overwrite: false" so that the first of two starts wins.
            var partial = $"{path}.{Environment.ProcessId}.partial";
            File.WriteAllText(partial, "host-" + RandomNumberGenerator.GetString("0123456789abcdefghjkmnpqrstvwxyz", 10) + "\n");
            try
            {
                File.Move(partial, path, overwrite: false);
            }
            catch (IOException) when (File.Exists(path))
            {
                File.Delete(partial);
            }
        }

        return Checked(File.ReadAllText(path).Trim(), path);
    }

    private static string Checked(string id, string where) =>
        Form().IsMatch(id)
            ? id
            : throw new InvalidDataException($"'{id}' ({where}) is not a host id: lower-case letters, digits, dots and hyphens, at most 63, beginning with a letter or digit.");

    [GeneratedRegex(@"\A[a-z0-9][a-z0-9.-]{0,62}\z")]
    private static partial Regex Form();
}
