using System.Collections;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using Sandbox.Isolation.Devices;

namespace Sandbox.Server;

/// <summary>
/// Reads <see cref="ServerOptions"/> from a configuration file (a flat JSON object), the environment (<c>SANDBOX_DATA_DIRECTORY</c> for
/// <c>dataDirectory</c>) and the command line; the later wins. A name nobody knows in the file is an error: it would otherwise be a setting that silently does nothing.
/// </summary>
public static class ServerSettings
{
    private const string Prefix = "SANDBOX_";

    private static readonly Dictionary<string, Func<ServerOptions, string, ServerOptions>> Known = new(StringComparer.OrdinalIgnoreCase)
    {
        ["role"] = (o, v) => o with { Role = Enum.TryParse<ServerRole>(v, ignoreCase: true, out var role) && Enum.IsDefined(role) && !char.IsDigit(v[0]) ? role : throw new FormatException("all, silo or gateway") },
        ["urls"] = (o, v) => o with { Urls = v.Split([';', ','], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) is { Length: > 0 } urls ? urls : throw new FormatException("an address such as http://127.0.0.1:8080") },
        ["dataDirectory"] = (o, v) => o with { DataDirectory = Path.GetFullPath(v) },
        ["imageRoot"] = (o, v) => o with { ImageRoot = Path.GetFullPath(v) },
        ["hostId"] = (o, v) => o with { HostId = v },
        ["redis"] = (o, v) => o with { Redis = v },
        ["postgres"] = (o, v) => o with { Postgres = v },
        ["clusterId"] = (o, v) => o with { ClusterId = v },
        ["serviceId"] = (o, v) => o with { ServiceId = v },
        ["advertisedAddress"] = (o, v) => o with { AdvertisedAddress = v },
        ["siloPort"] = (o, v) => o with { SiloPort = (int)Number(v, 0, 65535) },
        ["orleansGatewayPort"] = (o, v) => o with { OrleansGatewayPort = (int)Number(v, 0, 65535) },
        ["accelerator"] = (o, v) => o with { Accelerator = v is "auto" or "kvm" or "tcg" ? v : throw new FormatException("auto, kvm or tcg") },
        ["backends"] = (o, v) => o with { Backends = BackendNames(v) },
        ["nullBackend"] = (o, v) => o with { NullBackend = Flag(v) },
        ["nullLiveDirectory"] = (o, v) => o with { NullLiveDirectory = v.Length == 0 ? v : Path.GetFullPath(v) },
        ["nullDevices"] = (o, v) => o with { NullDevices = Flag(v) },
        ["devices"] = (o, v) => o with { Devices = o.Devices with { Enabled = v != "off", Addresses = v is "auto" or "off" ? [] : DeviceAddresses(v) } },
        ["deviceSysfs"] = (o, v) => o with { Devices = o.Devices with { SysfsRoot = Path.GetFullPath(v) } },
        ["deviceLeases"] = (o, v) => o with { Devices = o.Devices with { LeaseDirectory = Path.GetFullPath(v) } },
        ["deviceCdi"] = (o, v) => o with { Devices = o.Devices with { CdiDirectories = [.. v.Split([';', ','], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Select(Path.GetFullPath)] } },
        ["memoryMiB"] = (o, v) => o with { MemoryMiB = (int)Number(v, 0, int.MaxValue) },
        ["warmPool"] = (o, v) => o with { WarmPool = (int)Number(v, 0, 1000) },
        ["maxMicroVms"] = (o, v) => o with { MaxMicroVms = (int)Number(v, 0, 100_000) },
        ["defaultIdleTimeoutSeconds"] = (o, v) => o with { DefaultIdleTimeout = TimeSpan.FromSeconds(Number(v, 1, 30 * 86400)) },
        ["defaultMaxLifetimeSeconds"] = (o, v) => o with { DefaultMaxLifetime = TimeSpan.FromSeconds(Number(v, 1, 365 * 86400)) },
        ["snapshotDirectory"] = (o, v) => o with { SnapshotDirectory = v.Length == 0 ? v : Path.GetFullPath(v) },
        ["snapshotKeyFile"] = (o, v) => o with { SnapshotKeyFile = v.Length == 0 ? v : Path.GetFullPath(v) },
        ["s3Bucket"] = (o, v) => o with { S3Bucket = v },
        ["s3Prefix"] = (o, v) => o with { S3Prefix = v },
        ["s3Endpoint"] = (o, v) => o with { S3Endpoint = v },
        ["s3Region"] = (o, v) => o with { S3Region = v },
        ["bootstrapKeyFile"] = (o, v) => o with { BootstrapKeyFile = v.Length == 0 ? v : Path.GetFullPath(v) },
        ["drainTimeoutSeconds"] = (o, v) => o with { DrainTimeout = TimeSpan.FromSeconds(Number(v, 0, 25)) },
        ["egressNameServers"] = (o, v) => o with { Egress = o.Egress with { NameServers = Endpoints(v) } },
        ["egressRoots"] = (o, v) => o with { Egress = o.Egress with { RootsFile = v.Length == 0 ? v : Path.GetFullPath(v) } },
        ["egressAlsoPublic"] = (o, v) => o with { Egress = o.Egress with { AlsoPublic = Ranges(v) } },
        ["egressAuditorUrl"] = (o, v) => o with { Egress = o.Egress with { AuditorUrl = v.Length == 0 || Uri.TryCreate(v, UriKind.Absolute, out _) ? v : throw new FormatException("an address such as https://api.example.com/v1") } },
        ["egressAuditorModel"] = (o, v) => o with { Egress = o.Egress with { AuditorModel = v } },
        ["egressAuditorKeyFile"] = (o, v) => o with { Egress = o.Egress with { AuditorKeyFile = v.Length == 0 ? v : Path.GetFullPath(v) } },
        ["egressAuditorTimeoutSeconds"] = (o, v) => o with { Egress = o.Egress with { AuditorTimeout = TimeSpan.FromSeconds(Number(v, 1, 120)) } },
        ["e2bDomain"] = (o, v) => o with { E2b = o.E2b with { Domain = v } },
        ["tlsCertificate"] = (o, v) => o with { TlsCertificate = v.Length == 0 ? v : Path.GetFullPath(v) },
        ["tlsKey"] = (o, v) => o with { TlsKey = v.Length == 0 ? v : Path.GetFullPath(v) },
        ["development"] = (o, v) => o with { Gateway = o.Gateway with { Development = Flag(v) } },
        ["maxJsonBytes"] = (o, v) => o with { Gateway = o.Gateway with { MaxJsonBytes = Number(v, 1024, 1 << 28) } },
        ["maxUploadBytes"] = (o, v) => o with { Gateway = o.Gateway with { MaxUploadBytes = Number(v, 1, long.MaxValue / 2) } },
    };

    /// <summary>Names of all settings, as the configuration file spells them.</summary>
    public static IReadOnlyCollection<string> Names => Known.Keys;

    /// <summary>Reads the options.</summary>
    /// <param name="file">Configuration file, or <see langword="null"/> for none.</param>
    /// <param name="environment">The environment.</param>
    /// <param name="flags">What the command line says, by setting.</param>
    /// <exception cref="ServerException">A setting is unknown or has a value that does not fit; the message names it, where it stands, and what would fit.</exception>
    public static ServerOptions Read(string? file, IDictionary environment, IReadOnlyDictionary<string, string> flags)
    {
        ArgumentNullException.ThrowIfNull(environment);
        ArgumentNullException.ThrowIfNull(flags);
        var options = new ServerOptions();
        foreach (var (name, value) in file is null ? [] : ReadFile(file))
        {
            options = Known.ContainsKey(name)
                ? Set(options, name, value, file!)
                : throw new ServerException($"{file}: there is no setting '{name}'; there are {string.Join(", ", Known.Keys)}.");
        }

        foreach (var name in Known.Keys)
        {
            if (environment[EnvironmentName(name)] is string { Length: > 0 } value)
            {
                options = Set(options, name, value, EnvironmentName(name));
            }
        }

        foreach (var (name, value) in flags)
        {
            options = Set(options, name, value, "the command line");
        }

        return options;
    }

    /// <summary>The environment variable of a setting: <c>dataDirectory</c> is <c>SANDBOX_DATA_DIRECTORY</c>.</summary>
    public static string EnvironmentName(string setting)
    {
        ArgumentNullException.ThrowIfNull(setting);
        var name = new StringBuilder(Prefix);
        for (var i = 0; i < setting.Length; i++)
        {
            if (char.IsUpper(setting[i]) && !char.IsUpper(setting[i - 1]))
            {
                name.Append('_');
            }

            name.Append(char.ToUpperInvariant(setting[i]));
        }

        // MiB is one word.
        return name.Replace("MI_B", "MIB").ToString();
    }

    private static ServerOptions Set(ServerOptions options, string name, string value, string where)
    {
        try
        {
            return Known[name](options, value);
        }
        catch (Exception e) when (e is FormatException or ArgumentException)
        {
            throw new ServerException($"{where}: '{value}' does not fit {name}; it takes {e.Message}.", e);
        }
    }

    private static List<(string Name, string Value)> ReadFile(string file)
    {
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(file), new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? [.. document.RootElement.EnumerateObject().Select(p => (p.Name, Value: TextOf(p.Value)))]
                : throw new ServerException($"{file} is not a JSON object.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new ServerException($"The configuration file {file} cannot be read: {e.Message}", e);
        }
    }

    private static string TextOf(JsonElement value) =>
        value.ValueKind == JsonValueKind.Array ? string.Join(';', value.EnumerateArray().Select(e => e.ToString())) : value.ToString();

    private static bool Flag(string text) => bool.TryParse(text, out var on) ? on : throw new FormatException("true or false");

    private static long Number(string text, long least, long most) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most
            ? number
            : throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"a whole number from {least} to {most}"));

    private static IPEndPoint[] Endpoints(string value) =>
        [.. Split(value).Select(t => IPEndPoint.TryParse(t, out var e) ? new IPEndPoint(e.Address, e.Port == 0 ? 53 : e.Port) : throw new FormatException("a list of addresses of name servers, such as 192.0.2.53 or 192.0.2.53:5353"))];

    private static IPNetwork[] Ranges(string value) => [.. Split(value).Select(t => IPNetwork.TryParse(t, out var range) ? range : throw new FormatException("a list of ranges such as 203.0.113.0/24"))];

    private static string[] Split(string value) => value.Split([',', ';', ' '], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    private static string[] DeviceAddresses(string value)
    {
        var addresses = value.Split([';', ',', ' '], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return addresses.Length > 0 && addresses.All(a => PciAddress.TryParse(a) is not null) ? addresses : throw new FormatException("auto, off, or PCI addresses such as 0000:3b:00.0");
    }

    private static string[] BackendNames(string value)
    {
        var names = value.Split([',', ' '], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Distinct(StringComparer.Ordinal).ToArray();
        return names.All(ServerOptions.AllBackends.Contains) ? names : throw new FormatException("a list of " + string.Join(", ", ServerOptions.AllBackends));
    }
}
