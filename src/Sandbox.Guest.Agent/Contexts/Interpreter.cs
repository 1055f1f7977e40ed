using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>
/// A running language kernel: a process that takes code on descriptor 3 and answers in JSON lines on descriptor 4, so that its standard
/// output stays the user's own. At the end of a piece of code it writes a marker (random each time) to both outputs: what stands before the
/// marker belongs to that piece.
/// </summary>
internal sealed class Interpreter
{
    private readonly Cgroup _cgroup = Cgroup.Create();
    private readonly int _requests;
    private readonly BlockingCollection<JsonElement?> _replies = [];
    private readonly MarkedOutput _stdout;
    private readonly MarkedOutput _stderr;
    private volatile bool _dead;

    public Interpreter(string language, User user, IReadOnlyDictionary<string, string> environment, string directory)
    {
        var (requestRead, requestWrite) = Descriptors.Pipe();
        var (replyRead, replyWrite) = Descriptors.Pipe();
        var (outRead, outWrite) = Descriptors.Pipe();
        var (errRead, errWrite) = Descriptors.Pipe();
        var nothing = Descriptors.Null();
        try
        {
            Pid = ProcessLauncher.Start(
                new Launch(Kernels.CommandOf(language), environment, directory, user, [nothing, outWrite, errWrite, requestRead, replyWrite], false, _cgroup.Procs));
        }
        catch
        {
            foreach (var fd in (int[])[requestWrite, replyRead, outRead, errRead])
            {
                Native.Close(fd);
            }

            _cgroup.Remove();
            throw;
        }
        finally
        {
            foreach (var fd in (int[])[nothing, outWrite, errWrite, requestRead, replyWrite])
            {
                Native.Close(fd);
            }
        }

        _requests = requestWrite;
        _stdout = new MarkedOutput(outRead);
        _stderr = new MarkedOutput(errRead);
        new Thread(() => ReadReplies(replyRead), 256 * 1024) { IsBackground = true, Name = "replies" }.Start();
        new Thread(Reap, 128 * 1024) { IsBackground = true, Name = "kernel" }.Start();
    }

    public int Pid { get; }

    public bool Alive => !_dead;

    public bool OutOfMemory => _cgroup.OutOfMemory;

    public bool PidsLimitHit => _cgroup.PidsLimitHit;

    public ulong CpuMilliseconds => _cgroup.CpuMilliseconds;

    public ulong PeakMemory => _cgroup.PeakMemory;

    public void Interrupt() => Signal(2);

    public void Signal(int number)
    {
        if (!_dead)
        {
            _cgroup.Signal(Pid, number);
        }
    }

    public void Kill() => Signal(9);

    /// <summary>Sends one request and hands its replies and outputs over until it is done. Returns the final reply, or null if the kernel died.</summary>
    public JsonElement? Exchange(Action<Utf8JsonWriter> write, Action<JsonElement> reply, Action<OutputFd, ReadOnlyMemory<byte>> output)
    {
        var marker = Guid.NewGuid().ToString("N") + Guid.NewGuid().ToString("N");
        var markerBytes = Encoding.ASCII.GetBytes("\0" + marker + "\0");
        var outDone = _stdout.Begin(markerBytes, data => output(OutputFd.Stdout, data));
        var errDone = _stderr.Begin(markerBytes, data => output(OutputFd.Stderr, data));

        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteString("marker", marker);
            write(writer);
            writer.WriteEndObject();
        }

        buffer.WriteByte((byte)'\n');
        Descriptors.Write(_requests, buffer.GetBuffer().AsSpan(0, (int)buffer.Length));

        while (true)
        {
            if (_replies.Take() is not { } line)
            {
                // The kernel is gone; what it had written is still in the pipes, and their ends end the readers.
                _replies.Add(null);
                outDone.Wait(1000);
                errDone.Wait(1000);
                return null;
            }

            if (line.ValueKind == JsonValueKind.Object && line.TryGetProperty("type", out var type) && type.GetString() == "done")
            {
                outDone.Wait();
                errDone.Wait();
                return line;
            }

            reply(line);
        }
    }

    private void ReadReplies(int fd)
    {
        using var reader = new StreamReader(new Channel.DescriptorStream(fd), new UTF8Encoding(false), false, 64 * 1024);
        try
        {
            while (reader.ReadLine() is { } line)
            {
                if (line.Length > 0)
                {
                    using var document = JsonDocument.Parse(line);
                    _replies.Add(document.RootElement.Clone());
                }
            }
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            // User code wrote into our descriptor; it has broken its own interpreter.
            Kill();
        }

        _replies.Add(null);
    }

    private unsafe void Reap()
    {
        int status;
        while (Native.WaitPid(Pid, &status, 0) < 0 && Native.Errno == Native.Interrupted)
        {
        }

        _dead = true;
        _replies.Add(null);
        Native.Close(_requests);
        _cgroup.Signal(Pid, 9);
        _cgroup.Remove();
    }
}
