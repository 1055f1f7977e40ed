using System.Diagnostics;
using System.Globalization;
using Sandbox.Conformance.Backends;
using Sandbox.Conformance.Suite;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Conformance.Attacks;

/// <summary>
/// All machines of an image have one read-only copy of its files. Whoever finds out which of them the host has in its memory learns what somebody else has run: a neighbour reads half of some files that nobody uses otherwise, chosen by lot, and
/// the attacker is to say which. What it achieves is written down as it is: where something remains, docs/threat-model.md says so too.
/// </summary>
public sealed class SharedFileTests(Subjects subjects) : ConformanceTest(subjects)
{
    private const string Name = "timing of shared files";
    private const int Files = 24;

    /// <summary>Answers of the kernel that are so often right are no luck: the chance of a coin is below one in ten thousand.</summary>
    private const double Tells = 0.9;

    /// <summary>Read times are noisy, and a leak that is noisy is one. Among so many pairs a coin comes that far once in ten times.</summary>
    private const double Leaks = 0.65;

    /// <summary>Large files of the image that no program opens by itself, the same choice in every machine of a backend: what the attacker of another one has read is in the host's memory already.</summary>
    private const string Choose = """
        import os, random
        found = []
        for top in ('/usr/lib', '/usr/share'):
            for d, _, names in os.walk(top):
                for n in names:
                    p = os.path.join(d, n)
                    if not os.path.islink(p) and 40000 <= os.path.getsize(p) <= 400000 and not n.endswith(('.so', '.pyc')) and '.so.' not in n: found.append(p)
        print('\n'.join(random.Random('$BACKEND').sample(sorted(found), 24)))
        """;

    /// <summary>Throws out of memory what it may: by advice, and where the kernel is its own, by that.</summary>
    private const string Forget = """
        import os, sys
        for p in open('/tmp/files').read().split('\n'):
            fd = os.open(p, os.O_RDONLY)
            try: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError: pass
            os.close(fd)
        try: open('/proc/sys/vm/drop_caches', 'w').write('3\n')
        except OSError: pass
        """;

    /// <summary>A line a file: whether a read that must not wait gets something, whether mincore calls the page resident, how many nanoseconds a read takes. The last one only: it changes what is asked.</summary>
    private const string Probe = """
        import ctypes, os, time
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
        for p in open('/tmp/files').read().split('\n'):
            fd = os.open(p, os.O_RDONLY)
            size = os.fstat(fd).st_size
            page = size // 2 // 4096
            try: nowait = '1' if os.preadv(fd, [bytearray(4096)], page * 4096, os.RWF_NOWAIT) > 0 else '0'
            except BlockingIOError: nowait = '0'
            except OSError: nowait = '?'
            at = libc.mmap(None, size, 1, 1, fd, 0)
            vector = ctypes.create_string_buffer((size + 4095) // 4096)
            resident = '?' if at in (None, 2 ** 64 - 1) or libc.mincore(at, size, vector) != 0 else str(vector.raw[page] & 1)
            began = time.perf_counter_ns()
            os.pread(fd, 4096, page * 4096)
            print(nowait, resident, time.perf_counter_ns() - began)
            os.close(fd)
        """;

    [Theory, ClassData(typeof(Matrix))]
    public async Task What_a_neighbour_reads_of_the_shared_image_is_told_as_far_as_the_record_says(string backend)
    {
        var subject = await SubjectAsync(backend);
        if (!subject.Can.Processes)
        {
            // Its files are its own volume, and no path leads to the image.
            subject.Findings.Attacks[Name] = "there are no shared files: a session sees its own volume only";
            return;
        }

        // Machines of this test alone: what others have read is not asked.
        await using var neighbour = await subject.StartAsync(Ct);
        await using var attacker = await subject.StartAsync(Ct);
        var files = (await PythonAsync(neighbour, Choose.Replace("$BACKEND", backend, StringComparison.Ordinal))).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(Files, files.Length);
        await ShellAsync(attacker, $"cat > /tmp/files <<'END'\n{string.Join('\n', files)}\nEND\ntruncate -s -1 /tmp/files", user: "root");
        await PythonAsync(attacker, Forget);

        // What memory pressure does sooner or later on a host, done for the attacker.
        using (var dd = Process.Start(new ProcessStartInfo("dd", [$"if={Path.Combine(subject.Image, TemplateImage.Load(subject.Image).Root)}", "iflag=nocache", "count=0", "status=none"]))!)
        {
            await dd.WaitForExitAsync(Ct);
        }

        var read = Enumerable.Range(0, Files).OrderBy(_ => Random.Shared.Next()).Take(Files / 2).ToHashSet();
        await ShellAsync(neighbour, $"cat {string.Join(' ', read.Select(i => files[i]))} > /dev/null");
        var seen = (await PythonAsync(attacker, Probe)).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split(' ')).ToList();
        Assert.Equal(Files, seen.Count);

        var nowait = Rightness([.. seen.Select(s => s[0])], read);
        var mincore = Rightness([.. seen.Select(s => s[1])], read);
        var timing = Ordering([.. seen.Select(s => long.Parse(s[2], CultureInfo.InvariantCulture))], read);
        var channels = string.Create(CultureInfo.InvariantCulture, $"right by a read that must not wait: {Said(nowait)}, by mincore: {Said(mincore)}, by read times: {timing:0%} of pairs; a coin has half");
        subject.Findings.Attacks[Name] = nowait >= Tells || mincore >= Tells ? $"**not contained**: the kernel says which files of the image a neighbour has read ({channels})"
            : timing >= Leaks ? $"**not contained**: read times hint at which files of the image a neighbour has read ({channels})"
            : $"not told in this run, which proves nothing: the host's memory of the image is shared ({channels})";
        TestContext.Current.TestOutputHelper?.WriteLine($"{backend}: {subject.Findings.Attacks[Name]}");

        // What the kernel itself says is certain knowledge, and the host's kernel says it to nobody who has another one. Times are what they are.
        if (subject.Can.Boundary >= TrustBoundary.UserSpaceKernel)
        {
            Assert.True((nowait ?? 0) < Tells && (mincore ?? 0) < Tells, channels);
        }
    }

    private static async Task<Ran> PythonAsync(IMicroVm vm, string code)
    {
        await WriteAsync(vm, "/tmp/attack.py", System.Text.Encoding.UTF8.GetBytes(code.ReplaceLineEndings("\n")));
        var ran = await ShellAsync(vm, "python3 /tmp/attack.py", user: "root");
        Assert.True(ran.Exited.ExitCode == 0, ran.Stderr);
        return ran;
    }

    /// <summary>How many answers are right, or all wrong, which is as good; <see langword="null"/> where none was given.</summary>
    private static double? Rightness(string[] answers, HashSet<int> read)
    {
        if (!answers.Any(a => a is "0" or "1"))
        {
            return null;
        }

        var right = answers.Where((a, i) => (a == "1") == read.Contains(i)).Count() / (double)answers.Length;
        return Math.Max(right, 1 - right);
    }

    /// <summary>Of all pairs of a file that was read and one that was not: in how many the former was faster.</summary>
    private static double Ordering(long[] times, HashSet<int> read)
    {
        var pairs = read.SelectMany(r => Enumerable.Range(0, times.Length).Where(o => !read.Contains(o)).Select(o => times[r] < times[o] ? 1.0 : times[r] == times[o] ? 0.5 : 0)).ToList();
        return pairs.Average();
    }

    private static string Said(double? right) => right is { } r ? string.Create(CultureInfo.InvariantCulture, $"{r:0%}") : "no answer";
}
