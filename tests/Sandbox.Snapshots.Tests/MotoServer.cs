using System.ComponentModel;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Sandbox.Snapshots.Tests;

/// <summary>A real S3 server for the tests: <c>moto_server</c>, where it is installed (Debian 13's <c>python3-moto</c>, or PyPI's <c>moto[server]</c>).</summary>
public sealed class MotoServer : IAsyncDisposable
{
    private Process? _process;

    /// <summary>Its address, or <see langword="null"/> where there is none.</summary>
    public async Task<string?> StartAsync()
    {
        if (_process is not null)
        {
            return Url;
        }

        using (var listener = new TcpListener(IPAddress.Loopback, 0))
        {
            listener.Start();
            Url = $"http://127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}";
        }

        try
        {
            _process = Process.Start(new ProcessStartInfo("moto_server", ["-H", "127.0.0.1", "-p", new Uri(Url).Port.ToString(System.Globalization.CultureInfo.InvariantCulture)])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
        }
        catch (Win32Exception)
        {
            return null;
        }

        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        using var http = new HttpClient();
        for (var tries = 0; tries < 600 && !_process.HasExited; tries++)
        {
            try
            {
                await http.GetAsync(new Uri(Url));
                return Url;
            }
            catch (HttpRequestException)
            {
                await Task.Delay(100);
            }
        }

        Url = null;
        return null;
    }

    public string? Url { get; private set; }

    public async ValueTask DisposeAsync()
    {
        if (_process is { } process)
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
                await process.WaitForExitAsync();
            }

            process.Dispose();
        }
    }
}
