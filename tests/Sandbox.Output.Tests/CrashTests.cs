using CsCheck;
using Xunit;
using static Sandbox.Output.Tests.TemporaryRoot;

namespace Sandbox.Output.Tests;

/// <summary>What is left of a log when the writer dies at any byte, and what becomes of it.</summary>
public sealed class CrashTests
{
    private static readonly OutputLogOptions Small = new() { SegmentBytes = 300 };

    [Fact]
    public void A_tail_torn_at_any_byte_is_cut_and_the_log_goes_on()
    {
        using var root = new TemporaryRoot();
        using (var store = new OutputLogStore(root.Path, Small))
        {
            var log = store.Open("s", "x");
            for (var i = 0; i < 12; i++)
            {
                log.Append([Out(new string((char)('a' + i), i * 9))]);
            }
        }

        var last = Directory.GetFiles(root.Log()).Order(StringComparer.Ordinal).Last();
        var files = Directory.GetFiles(root.Log()).ToDictionary(f => f, File.ReadAllBytes);
        var whole = files[last];
        var before = int.Parse(Path.GetFileNameWithoutExtension(last), System.Globalization.CultureInfo.InvariantCulture) - 1;
        for (var length = whole.Length; length >= 0; length--)
        {
            Directory.Delete(root.Log(), recursive: true);
            Directory.CreateDirectory(root.Log());
            foreach (var (file, bytes) in files)
            {
                File.WriteAllBytes(file, file == last ? whole[..length] : bytes);
            }

            using var store = new OutputLogStore(root.Path, Small);
            var log = store.Open("s", "x");
            Assert.InRange(log.LastSeq, before, 12);
            var survived = log.LastSeq;
            Assert.Equal(survived + 1, log.Append([Out("after")])[0].Seq);
            var all = ReadAll(log, maxBytes: 50);
            Assert.Equal(Enumerable.Range(1, (int)survived + 1).Select(i => (long)i), all.Select(r => r.Seq));
            Assert.All(all.SkipLast(1), r => Assert.Equal((r.Seq - 1) * 9, r.Data.Length));
        }
    }

    [Fact]
    public void Appending_crashing_and_reopening_in_any_order_never_loses_or_repeats_a_record()
    {
        var step = Gen.Select(Gen.Int[1, 5], Gen.Int[0, 120], Gen.Int[0, 400], Gen.Bool);
        Gen.Select(step.Array[1, 25], Gen.Int[41, 1000]).Sample(
            (steps, segmentBytes) =>
            {
                using var root = new TemporaryRoot();
                var options = new OutputLogOptions { SegmentBytes = segmentBytes };
                var model = new List<byte[]>();
                foreach (var (count, size, torn, crash) in steps)
                {
                    using var store = new OutputLogStore(root.Path, options);
                    var log = store.Open("s", "x");
                    Assert.Equal(model.Count, log.LastSeq);
                    var batch = Enumerable.Range(0, count).Select(i => Enumerable.Repeat((byte)(model.Count + i), size).ToArray()).ToList();
                    log.Append([.. batch.Select(b => new OutputEntry(OutputRecordKind.Stdout, b))]);
                    model.AddRange(batch);
                    if (crash)
                    {
                        // A crash may leave the beginning of one more append behind.
                        var last = Directory.GetFiles(root.Log()).Order(StringComparer.Ordinal).Last();
                        using var file = new FileStream(last, FileMode.Append, FileAccess.Write, FileShare.ReadWrite);
                        file.Write(Enumerable.Range(0, torn).Select(i => (byte)(i * 7)).ToArray());
                    }
                }

                using var final = new OutputLogStore(root.Path, options);
                var all = ReadAll(final.Open("s", "x"), maxBytes: 200);
                Assert.Equal(Enumerable.Range(1, model.Count).Select(i => (long)i), all.Select(r => r.Seq));
                Assert.All(all, r => Assert.True(r.Data.Span.SequenceEqual(model[(int)r.Seq - 1])));
            },
            iter: 150);
    }

    [Fact]
    public async Task Damage_is_reported_and_never_read_as_output()
    {
        using var root = new TemporaryRoot();
        using (var store = new OutputLogStore(root.Path, Small))
        {
            var log = store.Open("s", "x");
            for (var i = 0; i < 20; i++)
            {
                log.Append([Out(new string('x', 50))]);
            }

            // Under the eyes of a reader.
            var first = Directory.GetFiles(root.Log()).Order(StringComparer.Ordinal).First();
            var bytes = File.ReadAllBytes(first);
            bytes[90] ^= 1;
            using (var file = new FileStream(first, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            {
                file.Write(bytes);
            }

            await Assert.ThrowsAsync<OutputLogCorruptException>(() => log.ReadAsync(1, 1000, 1000, TimeSpan.Zero).AsTask());
        }

        // In the middle, with records behind it: cutting would take back what readers have seen.
        using var again = new OutputLogStore(root.Path, Small);
        Assert.Throws<OutputLogCorruptException>(() => again.Open("s", "x"));
    }
}
