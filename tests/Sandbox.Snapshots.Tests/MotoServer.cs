using Sandbox.TestSupport;

namespace Sandbox.Snapshots.Tests;

/// <summary>A real S3 server for the tests: <c>moto_server</c>, where it is installed (Debian 13's <c>python3-moto</c>, or PyPI's <c>moto[server]</c>).</summary>
public sealed class MotoServer : IAsyncDisposable
{
    private ChildProcess? _process;
    private string? _url;

    /// <summary>Starts it, once; returns its address, or <see langword="null"/> where there is none.</summary>
    public async Task<string?> StartAsync()
    {
        if (_process is not null)
        {
            return _url;
        }

        var port = Loopback.FreePort();
        var url = $"http://127.0.0.1:{port}";
        _process = await ChildProcess.StartAsync(["moto_server", "-H", "127.0.0.1", "-p", $"{port}"]);
        using var http = new HttpClient();
        for (var tries = 0; tries < 600 && !_process.Exited.IsCompleted; tries++)
        {
            try
            {
                await http.GetAsync(new Uri(url));
                return _url = url;
            }
            catch (HttpRequestException)
            {
                await Task.Delay(100);
            }
        }

        return null;
    }

    public ValueTask DisposeAsync() => _process?.DisposeAsync() ?? ValueTask.CompletedTask;
}
