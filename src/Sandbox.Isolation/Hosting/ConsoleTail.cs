using System.Text;

namespace Sandbox.Isolation.Hosting;

/// <summary>Drains a stream and keeps its last bytes, for error messages. However much a guest prints, the host keeps this much.</summary>
public sealed class ConsoleTail(int capacity = 16 * 1024)
{
    private readonly byte[] _ring = new byte[capacity];
    private readonly Lock _lock = new();
    private long _written;

    /// <summary>Reads until the stream ends. Never faults.</summary>
    public async Task DrainAsync(Stream stream)
    {
        var buffer = new byte[4096];
        try
        {
            for (int n; (n = await stream.ReadAsync(buffer)) > 0;)
            {
                lock (_lock)
                {
                    foreach (var b in buffer.AsSpan(0, n))
                    {
                        _ring[_written++ % _ring.Length] = b;
                    }
                }
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            // The process is gone.
        }
    }

    /// <summary>The last lines, with everything unprintable removed: a guest wrote them.</summary>
    public string Read(int lines = 12)
    {
        byte[] bytes;
        lock (_lock)
        {
            var length = (int)Math.Min(_written, _ring.Length);
            bytes = new byte[length];
            for (var i = 0; i < length; i++)
            {
                bytes[i] = _ring[(_written - length + i) % _ring.Length];
            }
        }

        var text = new string([.. Encoding.Latin1.GetString(bytes).Where(c => c is '\n' or (>= ' ' and < (char)127))]);
        return string.Join('\n', text.Split('\n', StringSplitOptions.RemoveEmptyEntries).TakeLast(lines));
    }
}
