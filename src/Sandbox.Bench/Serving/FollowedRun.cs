using System.Text;
using System.Text.Json;

namespace Sandbox.Bench.Serving;

/// <summary>An execution that was followed to its end, with the moments its follower saw (ticks of <see cref="System.Diagnostics.Stopwatch"/>).</summary>
internal sealed class FollowedRun
{
    private const int Kept = 4096;

    public string ExecutionId { get; set; } = "";

    /// <summary>The response began: the execution has started.</summary>
    public long Headers { get; set; }

    /// <summary>The first byte of standard output was there; 0: there was none.</summary>
    public long FirstByte { get; set; }

    /// <summary>The exit was there.</summary>
    public long Ended { get; set; }

    public int ExitCode { get; private set; } = -1;

    /// <summary>Bytes of text that came, escapes of JSON counted as they stood.</summary>
    public long TextBytes { get; private set; }

    /// <summary>The first of what it printed, and its errors.</summary>
    public StringBuilder Said { get; } = new();

    /// <summary>Reads one event's data without making objects of it: a follower that is slow itself would be measured instead of the server. Returns its sequence number.</summary>
    public long Parse(string type, ReadOnlySpan<byte> data)
    {
        long seq = 0;
        var reader = new Utf8JsonReader(data);
        while (reader.Read())
        {
            if (reader.TokenType != JsonTokenType.PropertyName || reader.CurrentDepth != 1)
            {
                continue;
            }

            if (reader.ValueTextEquals("seq"u8))
            {
                reader.Read();
                seq = reader.GetInt64();
            }
            else if (reader.ValueTextEquals("exitCode"u8))
            {
                reader.Read();
                ExitCode = reader.TokenType == JsonTokenType.Number ? reader.GetInt32() : -1;
            }
            else if (reader.ValueTextEquals("text"u8) || reader.ValueTextEquals("value"u8))
            {
                reader.Read();
                TextBytes += reader.ValueSpan.Length;
                if (Said.Length < Kept)
                {
                    Said.Append(reader.GetString());
                }
            }
        }

        return seq;
    }
}
