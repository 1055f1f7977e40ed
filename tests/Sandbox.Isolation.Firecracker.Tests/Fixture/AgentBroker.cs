using System.Diagnostics;
using System.Net.Sockets;
using System.Reflection;
using System.Text;

namespace Sandbox.Isolation.Firecracker.Tests.Fixture;

/// <summary>Keeps the agents that stand for what runs in the doubles' guests: it gives one to each machine, and takes it back when that is gone.</summary>
internal sealed class AgentBroker : IAsyncDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Dictionary<string, (Process Process, bool InUse)> _agents = [];
    private readonly Lock _lock = new();
    private readonly string _folder;
    private int _next;

    public AgentBroker(string folder)
    {
        _folder = folder;
        var path = Path.Combine(folder, "broker");
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen(64);

        // Machines in jails have users of their own.
        File.SetUnixFileMode(path, (UnixFileMode)0b110_110_110);
        _ = ListenAsync();
    }

    public async ValueTask DisposeAsync()
    {
        _listener.Dispose();
        List<Process> agents;
        lock (_lock)
        {
            agents = [.. _agents.Values.Select(a => a.Process)];
        }

        foreach (var agent in agents)
        {
            agent.Kill(entireProcessTree: true);
            await agent.WaitForExitAsync();
            agent.Dispose();
        }
    }

    private async Task ListenAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _listener.AcceptAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The tests are over.
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        using var own = socket;
        var path = "";
        try
        {
            var line = new byte[256];
            var question = Encoding.UTF8.GetString(line, 0, await socket.ReceiveAsync(line)).Trim().Split(' ');
            path = question is ["claim", var wanted] && TryClaim(wanted) ? wanted : await StartAsync();
            await socket.SendAsync(Encoding.UTF8.GetBytes(path + "\n"));
            while (await socket.ReceiveAsync(line) > 0)
            {
                // It says no more; this ends with the machine.
            }
        }
        catch (SocketException)
        {
            // It was killed.
        }

        lock (_lock)
        {
            if (_agents.TryGetValue(path, out var agent))
            {
                _agents[path] = (agent.Process, false);
            }
        }
    }

    private bool TryClaim(string path)
    {
        lock (_lock)
        {
            if (!_agents.TryGetValue(path, out var agent) || agent.InUse || agent.Process.HasExited)
            {
                return false;
            }

            _agents[path] = (agent.Process, true);
            return true;
        }
    }

    private async Task<string> StartAsync()
    {
        var path = Path.Combine(_folder, $"agent-{Interlocked.Increment(ref _next)}");
        var agent = Path.Combine(typeof(AgentBroker).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "AgentFolder").Value!, "agent.dll");

        // The bound is for a test run that was killed.
        var process = Process.Start(new ProcessStartInfo("timeout", ["300", "dotnet", "exec", agent, "--socket", path]) { RedirectStandardError = true })!;
        process.ErrorDataReceived += (_, _) => { };
        process.BeginErrorReadLine();
        while (!File.Exists(path) || File.GetUnixFileMode(path) != (UnixFileMode.UserRead | UnixFileMode.UserWrite))
        {
            await Task.Delay(5);
        }

        File.SetUnixFileMode(path, (UnixFileMode)0b110_110_110);
        lock (_lock)
        {
            _agents[path] = (process, true);
        }

        return path;
    }
}
