using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;

namespace Sandbox.Conformance.Attacks;

/// <summary>What of the host must be the same after an attack as before, and a secret and a port of its own that no guest may reach.</summary>
internal sealed class HostState : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.IPv6Any, 0);
    private readonly string _secretFile = Path.Combine(Path.GetTempPath(), "sandbox-attack-" + Guid.NewGuid().ToString("N"));
    private readonly string _before;
    private readonly DateTime _clock = DateTime.UtcNow;
    private readonly Stopwatch _sinceThen = Stopwatch.StartNew();
    private int _connections;

    public HostState(string image)
    {
        Image = image;
        File.WriteAllText(_secretFile, Mark);
        _listener.Server.DualMode = true;
        _listener.Start();
        _ = AcceptAsync();
        _before = Take();
    }

    /// <summary>What only the host and the neighbour have.</summary>
    public string Mark { get; } = "mark" + Guid.NewGuid().ToString("N");

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public string Addresses => string.Join(' ', NetworkInterface.GetAllNetworkInterfaces().SelectMany(i => i.GetIPProperties().UnicastAddresses).Select(a => a.Address).Where(a => a.AddressFamily == AddressFamily.InterNetwork));

    /// <summary>A file that exists on the host only.</summary>
    public string SecretFile => _secretFile;

    private string Image { get; }

    /// <summary>What has changed since the beginning, or nothing.</summary>
    public string Changes()
    {
        var now = Take();
        var drift = DateTime.UtcNow - _clock - _sinceThen.Elapsed;
        return string.Join("; ", ((string[])
        [
            now == _before ? "" : $"before: {_before}\nnow: {now}",
            Math.Abs(drift.TotalSeconds) > 5 ? string.Create(CultureInfo.InvariantCulture, $"the host's clock moved by {drift.TotalSeconds:0} s") : "",
            _connections == 0 ? "" : $"{_connections} connections reached the host",
            File.Exists("/tmp/core") || File.Exists("core") ? "there is a core on the host" : "",
        ]).Where(c => c.Length > 0));
    }

    public void Dispose()
    {
        _listener.Dispose();
        File.Delete(_secretFile);
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                using var client = await _listener.AcceptSocketAsync();
                Interlocked.Increment(ref _connections);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
        {
            // Disposed.
        }
    }

    private string Take() => string.Join('\n',
    [
        .. ((string[])["core_pattern", "hostname", "sysrq"]).Select(n => "/proc/sys/kernel/" + n).Where(File.Exists).Select(f => File.ReadAllText(f).Trim()),
        $"modules {(File.Exists("/proc/modules") ? File.ReadLines("/proc/modules").Count() : 0)}",
        $"attack mounts {File.ReadLines("/proc/mounts").Count(m => m.Contains("sandbox-attack", StringComparison.Ordinal))}",
        File.ReadAllText(_secretFile),
        .. Directory.EnumerateFiles(Image).Order(StringComparer.Ordinal).Select(f => new FileInfo(f)).Select(f => $"{f.Name} {f.Length} {f.LastWriteTimeUtc:O}"),
    ]);
}
