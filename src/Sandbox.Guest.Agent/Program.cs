using System.Globalization;
using Sandbox.Guest.Agent;
using Sandbox.Guest.Agent.Channel;

switch (args)
{
    case ["--virtio-port", var name]:
        // Inside a microVM: the machine is ours. The OOM killer must find every other process first.
        File.WriteAllText("/proc/self/oom_score_adj", "-1000");
        new AgentServer(Endpoint.ForVirtioPort(name), ownsMachine: true).Run();
        return 0;
    case ["--vsock", var text] when uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port):
        var endpoint = Endpoint.ForVsock(port);
        File.WriteAllText("/proc/self/oom_score_adj", "-1000");
        new AgentServer(endpoint, ownsMachine: true).Run();
        return 0;
    case ["--socket", var path]:
        new AgentServer(Endpoint.ForSocket(path), ownsMachine: false).Run();
        return 0;
    default:
        Console.Error.WriteLine("usage: agent --virtio-port NAME   in a microVM, as root\n       agent --vsock PORT          the same, where the host connects by vsock\n       agent --socket PATH         on a unix socket, for tests");
        return 2;
}
