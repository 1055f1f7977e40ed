using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Channel;

/// <summary>Where the host's byte channel comes from. <see cref="Accept"/> returns whenever there is (again) somebody to talk to.</summary>
internal abstract class Endpoint
{
    public abstract Stream Accept();

    /// <summary>Called when the stream of the last <see cref="Accept"/> ended.</summary>
    public abstract void Ended(Stream stream);

    public static Endpoint ForVirtioPort(string name) => new VirtioPort(name);

    public static Endpoint ForDescriptors(int input, int output) => new Pipes(input, output);

    public static Endpoint ForSocket(string path) => new Listener(new UnixListener(path));

    /// <summary>Connections that the host makes to a port of this machine's.</summary>
    public static Endpoint ForVsock(uint port) => new Listener(new VsockListener(port));

    /// <summary>One port, open for the life of the agent. Reading 0 bytes means that nobody is connected on the host's side.</summary>
    private sealed class VirtioPort(string name) : Endpoint
    {
        private Stream? _port;

        public override Stream Accept() => _port ??= Open();

        public override void Ended(Stream stream) => Thread.Sleep(20);

        private DescriptorStream Open()
        {
            while (true)
            {
                foreach (var directory in Directory.Exists("/sys/class/virtio-ports") ? Directory.GetDirectories("/sys/class/virtio-ports") : [])
                {
                    if (File.ReadAllText(Path.Combine(directory, "name")).Trim() == name)
                    {
                        var fd = Native.Open("/dev/" + Path.GetFileName(directory), Native.ReadWrite | Native.CloseOnExec, 0);
                        if (fd >= 0)
                        {
                            return new DescriptorStream(fd);
                        }
                    }
                }

                Thread.Sleep(20);
            }
        }
    }

    /// <summary>
    /// Two pipes that the host holds the other ends of, open for the life of the agent. They end when the host's program does, and then nobody is left to work for. Moved away from 0 and 1, where what the
    /// agent starts would inherit them.
    /// </summary>
    private sealed class Pipes : Endpoint
    {
        private readonly DescriptorStream _stream;

        public Pipes(int input, int output)
        {
            _stream = new DescriptorStream(Executions.Descriptors.Duplicate(input), Executions.Descriptors.Duplicate(output));
            var nothing = Executions.Descriptors.Null();
            if (nothing < 0 || Native.DuplicateTo(nothing, input) < 0 || Native.DuplicateTo(nothing, output) < 0)
            {
                throw new IOException("Standard input and output cannot be closed: " + Native.Describe(Native.Errno));
            }

            Native.Close(nothing);
        }

        public override Stream Accept() => _stream;

        public override void Ended(Stream stream) => Environment.Exit(0);
    }
}
