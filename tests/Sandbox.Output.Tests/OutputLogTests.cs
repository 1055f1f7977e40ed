using System.Text;
using Xunit;
using static Sandbox.Output.Tests.TemporaryRoot;

namespace Sandbox.Output.Tests;

public sealed class OutputLogTests : IDisposable
{
    /// <summary>Generous: a busy machine must not decide a test.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly TemporaryRoot _root = new();

    public void Dispose() => _root.Dispose();

    [Fact]
    public async Task Records_are_numbered_and_read_back()
    {
        using var store = new OutputLogStore(_root.Path);
        var log = store.Open("s", "x");

        var written = log.Append([Out("a", 5), new(OutputRecordKind.Stderr, "b"u8.ToArray()), Exit()]);

        Assert.Equal([1L, 2L, 3L], written.Select(r => r.Seq));
        var page = await log.ReadAsync(1, 1000, 10, TimeSpan.Zero);
        Assert.Equal(["a", "b", "0"], page.Records.Select(r => Encoding.UTF8.GetString(r.Data.Span)));
        Assert.Equal((5L, 4L, 3L, true), (page.Records[0].UnixMilliseconds, page.NextSeq, page.LastSeq, page.Complete));
        Assert.Throws<InvalidOperationException>(() => log.Append([Out("late")]));
    }

    [Fact]
    public void A_log_goes_on_after_the_process_has_died()
    {
        using (var store = new OutputLogStore(_root.Path))
        {
            store.Open("s", "x").Append([Out("a")]);
        }

        using var again = new OutputLogStore(_root.Path);
        var log = again.Open("s", "x");
        Assert.Equal(2, log.Append([Out("b")])[0].Seq);
        Assert.Equal(2, ReadAll(log).Count);
    }

    [Theory]
    [InlineData(OutputDurability.ProcessDeath)]
    [InlineData(OutputDurability.PowerLoss)]
    public async Task Many_segments_read_as_one_log_from_any_number(OutputDurability durability)
    {
        using var store = new OutputLogStore(_root.Path, new OutputLogOptions { SegmentBytes = 4096, Durability = durability });
        var log = store.Open("s", "x");
        for (var i = 1; i <= 200; i++)
        {
            await log.AppendAsync([Out(new string((char)('a' + (i % 26)), i * 3))]);
        }

        Assert.True(Directory.GetFiles(_root.Log()).Length > 5);
        for (var from = 1; from <= 201; from += 7)
        {
            var page = await log.ReadAsync(from, int.MaxValue, int.MaxValue, TimeSpan.Zero);
            Assert.Equal(Enumerable.Range(from, 201 - from).Select(i => (long)i), page.Records.Select(r => r.Seq));
            Assert.All(page.Records, r => Assert.Equal(r.Seq * 3, r.Data.Length));
        }
    }

    [Fact]
    public async Task A_page_is_bounded_by_bytes_and_by_records_but_never_empty()
    {
        using var store = new OutputLogStore(_root.Path);
        var log = store.Open("s", "x");
        log.Append([.. Enumerable.Range(0, 50).Select(_ => Out(new string('x', 10_000)))]);

        var byBytes = await log.ReadAsync(1, 45_000, int.MaxValue, TimeSpan.Zero);
        var byRecords = await log.ReadAsync(1, int.MaxValue, 3, TimeSpan.Zero);
        var one = await log.ReadAsync(7, 1, 1000, TimeSpan.Zero);

        Assert.Equal(4, byBytes.Records.Count);
        Assert.Equal(3, byRecords.Records.Count);
        Assert.Equal(7L, Assert.Single(one.Records).Seq);
        Assert.Equal(50, byBytes.LastSeq);
    }

    [Fact]
    public async Task A_waiting_reader_wakes_when_its_record_comes_and_when_the_log_is_deleted()
    {
        using var store = new OutputLogStore(_root.Path);
        var log = store.Open("s", "x");
        var first = log.ReadAsync(1, 1000, 10, TimeSpan.FromHours(1)).AsTask();
        var second = log.ReadAsync(2, 1000, 10, TimeSpan.FromHours(1)).AsTask();

        log.Append([Out("a")]);
        Assert.Single((await first.WaitAsync(Patience)).Records);
        Assert.False(second.IsCompleted);

        await store.DeleteAsync("s");
        await Assert.ThrowsAsync<OutputLogDeletedException>(() => second.WaitAsync(Patience));
        Assert.Throws<OutputLogDeletedException>(() => log.Append([Out("b")]));
        Assert.Null(store.Find("s", "x"));
        Assert.Equal(1, store.Open("s", "x").Append([Out("new life")])[0].Seq);
    }

    [Fact]
    public async Task A_wait_ends_with_an_empty_page_and_can_be_cancelled()
    {
        using var store = new OutputLogStore(_root.Path);
        var log = store.Open("s", "x");
        using var cancel = new CancellationTokenSource();
        var waiting = log.ReadAsync(1, 1000, 10, TimeSpan.FromHours(1), cancel.Token).AsTask();

        var page = await log.ReadAsync(1, 1000, 10, TimeSpan.FromMilliseconds(10));
        await cancel.CancelAsync();

        Assert.Empty(page.Records);
        Assert.Equal((1L, false), (page.NextSeq, page.Complete));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting.WaitAsync(Patience));
    }

    [Fact]
    public async Task A_reader_beyond_the_end_of_a_complete_log_does_not_wait()
    {
        using var store = new OutputLogStore(_root.Path);
        var log = store.Open("s", "x");
        log.Complete(_ => "0"u8.ToArray());

        Assert.True((await log.ReadAsync(2, 1000, 10, TimeSpan.FromHours(1)).AsTask().WaitAsync(Patience)).Complete);
    }

    [Fact]
    public async Task Readers_see_every_record_once_while_the_writer_writes()
    {
        const int Records = 3000;
        using var store = new OutputLogStore(_root.Path, new OutputLogOptions { SegmentBytes = 16 * 1024, MaxOpenFiles = 2 });
        var log = store.Open("s", "x");
        var readers = Enumerable.Range(0, 6).Select(i => Task.Run(async () =>
        {
            long next = 1;
            while (true)
            {
                var page = await log.ReadAsync(next, 500 + (i * 700), 1000, TimeSpan.FromSeconds(5));
                foreach (var record in page.Records)
                {
                    Assert.Equal(next++, record.Seq);
                    Assert.True(record.Kind == OutputRecordKind.Exit || Encoding.UTF8.GetString(record.Data.Span) == $"line {record.Seq}");
                }

                if (page.Complete)
                {
                    return next - 1;
                }
            }
        })).ToArray();

        for (var i = 1; i <= Records; i += 3)
        {
            await log.AppendAsync([Out($"line {i}"), Out($"line {i + 1}"), Out($"line {i + 2}")]);
        }

        log.Complete(_ => "0"u8.ToArray());

        Assert.All(await Task.WhenAll(readers).WaitAsync(Patience), last => Assert.Equal(Records + 1, last));
    }

    [Fact]
    public void Output_beyond_the_cap_is_counted_and_said_and_the_log_still_ends()
    {
        var options = new OutputLogOptions { MaxOutputBytes = 100 };
        using (var store = new OutputLogStore(_root.Path, options))
        {
            var log = store.Open("s", "x");
            log.Append([Out(new string('a', 90))]);
            var written = log.Append([Out(new string('b', 30)), new(OutputRecordKind.Result, new byte[5]), Out("c")]);
            Assert.Equal([OutputRecordKind.Stdout, OutputRecordKind.Notice], written.Select(r => r.Kind));
            Assert.Equal(10, written[0].Data.Length);
            Assert.Empty(log.Append([Out("more")]));
            Assert.Equal(new OutputTotals(100, 30, true), log.Totals);
            var exit = log.Complete(totals => Encoding.UTF8.GetBytes($"dropped {totals.DroppedBytes}"));
            Assert.Equal("dropped 30", Encoding.UTF8.GetString(exit.Data.Span));
        }

        using var again = new OutputLogStore(_root.Path, options);
        var reopened = again.Find("s", "x")!;
        Assert.Equal(new OutputTotals(100, 30, true), reopened.Totals);
        Assert.True(reopened.IsComplete);
        Assert.Equal("dropped 30", Encoding.UTF8.GetString(ReadAll(reopened)[^1].Data.Span));
    }

    [Fact]
    public void A_flood_of_tiny_records_is_capped_too_and_the_cap_holds_after_reopening()
    {
        var options = new OutputLogOptions { MaxOutputRecords = 10, SegmentBytes = 200 };
        using (var store = new OutputLogStore(_root.Path, options))
        {
            var log = store.Open("s", "x");
            for (var i = 0; i < 20; i++)
            {
                log.Append([Out("y")]);
            }

            Assert.Equal(11, log.LastSeq);
        }

        using var again = new OutputLogStore(_root.Path, options);
        var reopened = again.Open("s", "x");
        Assert.Empty(reopened.Append([Out("z")]));
        Assert.Equal(new OutputTotals(10, 1, true), reopened.Totals);
        Assert.Equal(12, reopened.Complete(_ => "0"u8.ToArray()).Seq);
    }

    [Fact]
    public void Idle_logs_hold_no_files()
    {
        using var store = new OutputLogStore(_root.Path, new OutputLogOptions { MaxOpenFiles = 8 });
        var logs = Enumerable.Range(0, 100).Select(i => store.Open("s", $"x{i}")).ToList();
        foreach (var log in logs)
        {
            log.Append([Out("a")]);
        }

        Assert.InRange(store.OpenFiles, 0, 8);
        Assert.All(logs, log => Assert.Equal(2, log.Append([Out("b")])[0].Seq));
        Assert.All(logs, log => Assert.Equal(2, ReadAll(log).Count));
    }

    [Theory]
    [InlineData("..")]
    [InlineData("")]
    [InlineData("a/b")]
    [InlineData("a.b")]
    [InlineData("ä")]
    [InlineData("a\0")]
    public void Ids_that_are_no_names_are_refused(string id)
    {
        using var store = new OutputLogStore(_root.Path);
        Assert.Throws<ArgumentException>(() => store.Open(id, "x"));
        Assert.Throws<ArgumentException>(() => store.Find("s", id));
        Assert.Throws<ArgumentException>(() => { _ = store.DeleteAsync(id); });
        Assert.Throws<ArgumentException>(() => store.Open(new string('a', 65), "x"));
        Assert.Empty(Directory.GetDirectories(_root.Path));
    }

    [Fact]
    public void A_root_has_one_process()
    {
        using var store = new OutputLogStore(_root.Path);
        Assert.Throws<OutputLogException>(() => new OutputLogStore(_root.Path));
    }

    [Fact]
    public void Sweeping_takes_old_logs_and_leaves_those_being_written()
    {
        using var store = new OutputLogStore(_root.Path);
        store.Open("s", "done").Append([Out("a"), Exit()]);
        var running = store.Open("s", "running");
        running.Append([Out("a")]);
        store.Open("t", "done").Append([Out("a"), Exit()]);

        Assert.Equal(0, store.Sweep(TimeSpan.FromHours(1)).Logs);
        Assert.Equal(2, store.Sweep(TimeSpan.FromHours(-1)).Logs);

        Assert.Null(store.Find("s", "done"));
        Assert.False(Directory.Exists(Path.Combine(_root.Path, "t")));
        Assert.Equal(2, running.Append([Out("b")])[0].Seq);
    }
}
