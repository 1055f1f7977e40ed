using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Log;

/// <summary>The files of a log: lines of JSON, and what it has come to. Failures of the disk are logged and otherwise ignored: traffic does not wait for it.</summary>
internal sealed partial class EgressLogFiles(EgressLogOptions options)
{
    private const string Current = "egress.jsonl";
    private const string Older = "egress.1.jsonl";
    private const string State = "egress.state.json";
    private readonly string _directory = options.Directory ?? throw new ArgumentException("A log without a directory has no files.", nameof(options));
    private bool _complained;

    /// <summary>What is there: the newest records in order, as many as can be read, and the state. A line that is not whole was being written when the process ended.</summary>
    public (List<EgressRecord> Records, EgressLogState? State) Read()
    {
        var records = new Queue<EgressRecord>();
        EgressLogState? state = null;
        try
        {
            Directory.CreateDirectory(_directory);
            foreach (var file in new[] { Older, Current })
            {
                var path = Path.Combine(_directory, file);
                foreach (var line in File.Exists(path) ? File.ReadLines(path) : [])
                {
                    if (Parse(line, EgressJson.Default.EgressRecord) is not { } record)
                    {
                        continue;
                    }

                    // Numbers without a gap: after one, what came before it is of no use to readers.
                    if (records.Count > 0 && record.Seq != records.Last().Seq + 1)
                    {
                        records.Clear();
                    }

                    records.Enqueue(record);
                    if (records.Count > options.Capacity)
                    {
                        records.Dequeue();
                    }
                }
            }

            var statePath = Path.Combine(_directory, State);
            state = File.Exists(statePath) ? Parse(File.ReadAllText(statePath), EgressJson.Default.EgressLogState) : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            Complain(exception);
        }

        return ([.. records], state);
    }

    /// <summary>Appends, and turns the files over when one is full.</summary>
    public void Append(IReadOnlyList<EgressRecord> records, EgressLogState state)
    {
        try
        {
            var path = Path.Combine(_directory, Current);
            if (File.Exists(path) && new FileInfo(path).Length >= options.MaxFileBytes)
            {
                File.Move(path, Path.Combine(_directory, Older), overwrite: true);
            }

            using (var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0))
            {
                using var buffer = new MemoryStream();
                if (file.Length > 0)
                {
                    // Half a line of a process that ended must not swallow the next one.
                    file.Seek(-1, SeekOrigin.End);
                    if (file.ReadByte() != '\n')
                    {
                        buffer.WriteByte((byte)'\n');
                    }
                }

                foreach (var record in records)
                {
                    JsonSerializer.Serialize(buffer, record, EgressJson.Default.EgressRecord);
                    buffer.WriteByte((byte)'\n');
                }

                file.Seek(0, SeekOrigin.End);
                file.Write(buffer.GetBuffer(), 0, (int)buffer.Length);
            }

            var statePath = Path.Combine(_directory, State);
            File.WriteAllBytes(statePath + ".new", JsonSerializer.SerializeToUtf8Bytes(state, EgressJson.Default.EgressLogState));
            File.Move(statePath + ".new", statePath, overwrite: true);
            _complained = false;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            Complain(exception);
        }
    }

    private static T? Parse<T>(string text, System.Text.Json.Serialization.Metadata.JsonTypeInfo<T> type)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize(text, type);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private void Complain(Exception exception)
    {
        if (!_complained)
        {
            _complained = true;
            LogDisk(options.Logger, _directory, exception);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The egress log in {Directory} cannot be kept on disk; it is kept in memory meanwhile.")]
    private static partial void LogDisk(ILogger logger, string directory, Exception exception);
}

/// <summary>How records stand in files.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, UseStringEnumConverter = true)]
[JsonSerializable(typeof(EgressRecord))]
[JsonSerializable(typeof(EgressLogState))]
internal sealed partial class EgressJson : JsonSerializerContext;
