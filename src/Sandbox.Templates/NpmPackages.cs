using System.Diagnostics;
using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;

namespace Sandbox.Templates;

/// <summary>Fetches packages from npm's registry, the one that this host is configured for, and takes single files out of them. Nothing of a package is run.</summary>
internal sealed class NpmPackages(Uri registry)
{
    private const string Default = "https://registry.npmjs.org/";
    private const long MaxTarball = 128L << 20;
    private const long MaxFile = 512L << 20;

    private const UnixFileMode Readable = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private const UnixFileMode Executable = Readable | UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;

    private static readonly HttpClient Http = new() { Timeout = TimeSpan.FromMinutes(10) };

    /// <summary>The registry that npm would ask here.</summary>
    public static async Task<NpmPackages> ForThisHostAsync(CancellationToken cancellationToken)
    {
        var address = Environment.GetEnvironmentVariable("NPM_CONFIG_REGISTRY") ?? Environment.GetEnvironmentVariable("npm_config_registry") ?? await AskNpmAsync(cancellationToken) ?? Default;
        return Uri.TryCreate(address.TrimEnd('/') + "/", UriKind.Absolute, out var uri) && uri.Scheme is "https" or "http"
            ? new NpmPackages(uri)
            : throw new TemplateException($"npm's registry is configured as '{address}', which is no address of one.");
    }

    /// <summary>Fetches a package, verifies it, and puts files of it into place.</summary>
    /// <param name="package">Which, and its hash.</param>
    /// <param name="files">Path in the package to where it goes.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="TemplateException">It cannot be fetched, is another than was pinned, or lacks a file.</exception>
    public async Task FetchAsync(PinnedPackage package, IReadOnlyDictionary<string, string> files, CancellationToken cancellationToken)
    {
        var tarball = await DownloadAsync(package, cancellationToken);
        var missing = await ExtractAsync(tarball, files, cancellationToken);
        if (missing.Count > 0)
        {
            throw new TemplateException($"{package.Package} {package.Version} holds no {string.Join(" and no ", missing)}.");
        }
    }

    /// <summary>Fetches a package, verifies it, and puts all of it below a folder. Nothing of it is run: a package that wants to be built does not work so.</summary>
    /// <exception cref="TemplateException">It cannot be fetched, is another than was pinned, or is no package.</exception>
    public async Task InstallAsync(PinnedPackage package, string folder, CancellationToken cancellationToken)
    {
        var tarball = await DownloadAsync(package, cancellationToken);
        await EachFileAsync(tarball, async (name, mode, data) =>
        {
            var path = Path.GetFullPath(Path.Combine(folder, name));
            if (!path.StartsWith(Path.GetFullPath(folder) + "/", StringComparison.Ordinal))
            {
                throw new TemplateException($"{package.Package} {package.Version} has a file outside of itself: '{name}'. Nothing more of it was used.");
            }

            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            await File.WriteAllBytesAsync(path, await ReadAsync(data, MaxFile, name, cancellationToken), cancellationToken);
            File.SetUnixFileMode(path, (mode & UnixFileMode.UserExecute) != 0 ? Executable : Readable);
        }, cancellationToken);
    }

    private async Task<byte[]> DownloadAsync(PinnedPackage package, CancellationToken cancellationToken)
    {
        var address = new Uri(registry, package.TarballPath);
        byte[] tarball;
        try
        {
            using var response = await Http.GetAsync(address, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
            response.EnsureSuccessStatusCode();
            if (response.Content.Headers.ContentLength > MaxTarball)
            {
                throw new TemplateException($"{address} has {response.Content.Headers.ContentLength} bytes; a package may have {MaxTarball}.");
            }

            await using var body = await response.Content.ReadAsStreamAsync(cancellationToken);
            tarball = await ReadAsync(body, MaxTarball, address.ToString(), cancellationToken);
        }
        catch (HttpRequestException e)
        {
            throw new TemplateException($"Cannot fetch {address}: {e.Message}. If this host uses another registry, name it with NPM_CONFIG_REGISTRY.", e);
        }

        var found = "sha512-" + Convert.ToBase64String(SHA512.HashData(tarball));
        return found == package.Integrity
            ? tarball
            : throw new TemplateException($"{address} is not what the template pins: its hash is {found}, expected was {package.Integrity}. Nothing of it was used.");
    }

    private static async Task<HashSet<string>> ExtractAsync(byte[] tarball, IReadOnlyDictionary<string, string> files, CancellationToken cancellationToken)
    {
        var missing = new HashSet<string>(files.Keys, StringComparer.Ordinal);
        await EachFileAsync(tarball, async (name, _, data) =>
        {
            if (missing.Remove(name))
            {
                await File.WriteAllBytesAsync(files[name], await ReadAsync(data, MaxFile, name, cancellationToken), cancellationToken);
            }
        }, cancellationToken);
        return missing;
    }

    private static async Task EachFileAsync(byte[] tarball, Func<string, UnixFileMode, Stream, Task> take, CancellationToken cancellationToken)
    {
        try
        {
            await using var unzipped = new GZipStream(new MemoryStream(tarball), CompressionMode.Decompress);
            await using var reader = new TarReader(unzipped);
            while (await reader.GetNextEntryAsync(copyData: false, cancellationToken) is { } entry)
            {
                // Everything in a tarball of npm's is below one folder.
                var name = entry.Name[(entry.Name.IndexOf('/') + 1)..];
                if (entry.EntryType is TarEntryType.RegularFile or TarEntryType.V7RegularFile && name.Length > 0)
                {
                    await take(name, entry.Mode, entry.DataStream ?? Stream.Null);
                }
            }
        }
        catch (Exception e) when (e is InvalidDataException or FormatException)
        {
            throw new TemplateException($"A package cannot be unpacked: {e.Message}", e);
        }
    }

    private static async Task<byte[]> ReadAsync(Stream stream, long most, string what, CancellationToken cancellationToken)
    {
        var all = new MemoryStream();
        var buffer = new byte[128 * 1024];
        for (int n; (n = await stream.ReadAsync(buffer, cancellationToken)) > 0;)
        {
            all.Write(buffer, 0, n);
            if (all.Length > most)
            {
                throw new TemplateException($"{what} has more than {most} bytes.");
            }
        }

        return all.ToArray();
    }

    private static async Task<string?> AskNpmAsync(CancellationToken cancellationToken)
    {
        if (HostTools.Find("npm") is not { } npm)
        {
            return null;
        }

        using var process = Process.Start(new ProcessStartInfo(npm, ["config", "get", "registry"]) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;
        process.StandardInput.Close();
        var said = process.StandardOutput.ReadToEndAsync(cancellationToken);
        _ = process.StandardError.ReadToEndAsync(cancellationToken);
        await process.WaitForExitAsync(cancellationToken);
        var address = (await said).Trim();
        return process.ExitCode == 0 && address.StartsWith("http", StringComparison.Ordinal) ? address : null;
    }
}
