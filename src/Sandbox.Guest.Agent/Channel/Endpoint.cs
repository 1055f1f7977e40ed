using System.Net.Sockets;
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

    public static Endpoint ForSocket(string path) => new UnixSocket(path);

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

    /// <summary>A listening unix socket; one connection at a time, and a new one takes the place of the old.</summary>
    private sealed class UnixSocket : Endpoint
    {
        private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        private readonly Lock _lock = new();
        private readonly SemaphoreSlim _arrived = new(0);
        private Socket? _waiting;
        private Socket? _current;

        public UnixSocket(string path)
        {
            File.Delete(path);
            _listener.Bind(new UnixDomainSocketEndPoint(path));
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            _listener.Listen(64);
            new Thread(Listen, 128 * 1024) { IsBackground = true, Name = "listen" }.Start();
        }

        public override Stream Accept()
        {
            while (true)
            {
                _arrived.Wait();
                lock (_lock)
                {
                    // Of several that came meanwhile only the last one is still there.
                    if (_waiting is { } socket)
                    {
                        (_current, _waiting) = (socket, null);
                        return new NetworkStream(socket, ownsSocket: true);
                    }
                }
            }
        }

        public override void Ended(Stream stream)
        {
            lock (_lock)
            {
                _current = null;
            }

            stream.Dispose();
        }

        private void Listen()
        {
            while (true)
            {
                Socket socket;
                try
                {
                    socket = _listener.Accept();
                }
                catch (SocketException)
                {
                    // That caller went away again, or there are no descriptors at the moment.
                    Thread.Sleep(20);
                    continue;
                }

                lock (_lock)
                {
                    _waiting?.Dispose();
                    _waiting = socket;
                    try
                    {
                        _current?.Shutdown(SocketShutdown.Both);
                    }
                    catch (Exception e) when (e is SocketException or ObjectDisposedException)
                    {
                        // It has ended by itself.
                    }
                }

                _arrived.Release();
            }
        }
    }
}
