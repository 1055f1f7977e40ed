using System.Text;

namespace Sandbox.Output.Tests;

/// <summary>A directory that is gone when its test is.</summary>
public sealed class TemporaryRoot : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("sandbox-output-").FullName;

    public string Log(string session = "s", string execution = "x") => System.IO.Path.Combine(Path, session, execution);

    public static OutputEntry Out(string text, long time = 0) => new(OutputRecordKind.Stdout, Encoding.UTF8.GetBytes(text), time);

    public static OutputEntry Exit(string text = "0") => new(OutputRecordKind.Exit, Encoding.UTF8.GetBytes(text));

    public static List<OutputRecord> ReadAll(OutputLog log, int maxBytes = 64 * 1024)
    {
        List<OutputRecord> all = [];
        while (true)
        {
            var page = log.ReadAsync(all.Count + 1, maxBytes, 1000, TimeSpan.Zero).AsTask().GetAwaiter().GetResult();
            if (page.Records.Count == 0)
            {
                return all;
            }

            all.AddRange(page.Records);
        }
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
