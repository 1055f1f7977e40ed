using System.Globalization;
using Sandbox.Guest.Agent;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;

switch (args)
{
    case ["--virtio-port", var name]:
        // Inside a microVM: the machine is ours. The OOM killer must find every other process first.
        File.WriteAllText("/proc/self/oom_score_adj", "-1000");
        new AgentServer(Endpoint.ForVirtioPort(name), Surroundings.Machine).Run();
        return 0;
    case ["--container", _] or ["--container", _, _]:
        // It has become the user that the second argument names before this program began: see native/container.c.
        Container.Enter();
        Children.AdoptOrphans();
        new AgentServer(Endpoint.ForDescriptors(0, 1), Surroundings.Container).Run();
        return 0;
    case ["--vsock", var text] when uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port):
        var endpoint = Endpoint.ForVsock(port);
        File.WriteAllText("/proc/self/oom_score_adj", "-1000");
        new AgentServer(endpoint, Surroundings.Machine).Run();
        return 0;
    case ["--socket", var path]:
        new AgentServer(Endpoint.ForSocket(path), Surroundings.Host).Run();
        return 0;
    default:
        Console.Error.WriteLine(
            """
            usage: agent --virtio-port NAME   in a microVM, as root
                   agent --vsock PORT         the same, where the host connects by vsock
                   agent --container UID [N]  in a container, as the user of that id, with N processors; the channel is standard input and output
                   agent --socket PATH        on a unix socket, for tests
            """);
        return 2;
}
