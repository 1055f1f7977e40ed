using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Harness;

/// <summary>The real server program as a child process, on a free loopback port, with a data directory of its own.</summary>
public sealed class SandboxServer : IAsyncDisposable
{
    private static readonly TimeSpan StartDeadline = TimeSpan.FromMinutes(3);

    private readonly string[] _arguments;
    private readonly StringBuilder _log = new();
    private readonly bool _ownsData;
    private Process? _process;

    private SandboxServer(string dataDirectory, bool ownsData, int port, string[] arguments)
    {
        DataDirectory = dataDirectory;
        _ownsData = ownsData;
        _arguments = arguments;
        Url = new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}"));
        Http = new HttpClient { BaseAddress = Url, Timeout = TimeSpan.FromMinutes(5) };
        Api = new SandboxApi(Http);
    }

    public string DataDirectory { get; }

    public Uri Url { get; }

    /// <summary>A second address that it listens on, for example one with TLS; set before it is started.</summary>
    public string SecondUrl { get; init; } = "";

    /// <summary>Isolation backends that it offers; set before it is started.</summary>
    public string Backends { get; init; } = "qemu";

    public HttpClient Http { get; }

    public SandboxApi Api { get; }

    public int ProcessId => _process?.Id ?? throw new InvalidOperationException("The server is not running.");

    public string Log
    {
        get
        {
            lock (_log)
            {
                return _log.ToString();
            }
        }
    }

    /// <summary>Path of the program under test, beside the tests.</summary>
    public static string Program { get; } = Path.Combine(AppContext.BaseDirectory, "sandbox");

    /// <summary>One that is not started yet.</summary>
    public static SandboxServer Prepare(string? dataDirectory = null, params string[] arguments) => PrepareAt("", dataDirectory, arguments);

    /// <summary>One that listens on a second address, too.</summary>
    public static SandboxServer PrepareAt(string secondUrl, string? dataDirectory = null, params string[] arguments) => new(
        dataDirectory ?? Directory.CreateTempSubdirectory("sandbox-e2e-").FullName, dataDirectory is null, Loopback.FreePort(), arguments) { SecondUrl = secondUrl };

    /// <summary>One with other backends than QEMU alone.</summary>
    public static SandboxServer PrepareWith(string backends, params string[] arguments) =>
        new(Directory.CreateTempSubdirectory("sandbox-e2e-").FullName, true, Loopback.FreePort(), arguments) { Backends = backends };

    public static async Task<SandboxServer> StartAsync(string? dataDirectory = null, params string[] arguments)
    {
        var server = Prepare(dataDirectory, arguments);
        try
        {
            await server.RestartAsync();
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }

        return server;
    }

    /// <summary>Starts the program (again) on the same data and address, and waits until it is ready for sessions.</summary>
    public async Task RestartAsync()
    {
        Launch();
        await WaitUntilReadyAsync();
    }

    /// <summary>Starts the program without waiting for it.</summary>
    public void Launch()
    {
        var start = new ProcessStartInfo(Program) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (var argument in (string[])["serve", .. _arguments.Contains("--bootstrap-key") ? (string[])[] : ["--dev"], "--urls", Url.ToString().TrimEnd('/') + (SecondUrl.Length > 0 ? ";" + SecondUrl : ""), "--data", DataDirectory, .. _arguments])
        {
            start.ArgumentList.Add(argument);
        }

        // Trying out every backend at every start would cost more than most tests; those that want others name them.
        start.Environment["SANDBOX_BACKENDS"] = Backends;
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, e) => Append(e.Data);
        _process.ErrorDataReceived += (_, e) => Append(e.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public async Task WaitUntilReadyAsync()
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            if (_process!.HasExited)
            {
                Assert.Fail($"The server ended with {_process.ExitCode} before it was ready:\n{Log}");
            }

            try
            {
                using var answer = await Http.GetAsync(new Uri("/readyz", UriKind.Relative));
                if (answer.StatusCode == HttpStatusCode.OK)
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }

            if (clock.Elapsed > StartDeadline)
            {
                Assert.Fail($"The server was not ready after {StartDeadline}:\n{Log}");
            }

            await Task.Delay(25);
        }
    }

    /// <summary>What a power cut does to the program: SIGKILL, no chance to clean up.</summary>
    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
        _process = null;
    }

    /// <summary>What an operator does: SIGTERM, then wait.</summary>
    public async Task<int> StopAsync()
    {
        Signals.Send(_process!.Id, Signals.Terminate);
        using var deadline = new CancellationTokenSource(TimeSpan.FromMinutes(1));
        await _process.WaitForExitAsync(deadline.Token);
        var code = _process.ExitCode;
        _process.Dispose();
        _process = null;
        return code;
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is { HasExited: false })
        {
            try
            {
                await StopAsync();
            }
            catch (OperationCanceledException)
            {
                _process!.Kill(entireProcessTree: true);
                throw new TimeoutException($"The server did not stop within a minute of SIGTERM:\n{Log}");
            }
        }

        Http.Dispose();
        if (_ownsData)
        {
            Directory.Delete(DataDirectory, recursive: true);
        }
    }

    private void Append(string? line)
    {
        lock (_log)
        {
            _log.AppendLine(line);
        }
    }
}
