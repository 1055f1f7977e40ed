using Sandbox.Conformance.Report;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Conformance.Backends;

/// <summary>Every backend, made when first asked for and removed with the tests; then the document is written, if it is wanted.</summary>
public sealed class Subjects : IAsyncLifetime
{
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly Dictionary<string, Subject> _subjects = new(StringComparer.Ordinal);

    /// <summary>A backend that is usable here; a test of one that is not is skipped, and says why.</summary>
    public async Task<Subject> GetAsync(string name)
    {
        await _one.WaitAsync();
        Subject? subject;
        try
        {
            if (!_subjects.TryGetValue(name, out subject))
            {
                _subjects[name] = subject = Matrix.Make(name);
                await subject.PrepareAsync(CancellationToken.None);
            }
        }
        finally
        {
            _one.Release();
        }

        Assert.SkipUnless(subject.Verdict.Usable, $"{name} is not usable here: {subject.Verdict.Reason}");
        return subject;
    }

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (var subject in _subjects.Values)
        {
            await subject.DisposeAsync();
        }

        if (Environment.GetEnvironmentVariable("SANDBOX_BACKENDS_DOCUMENT") is { Length: > 0 } path)
        {
            // The runner's working directory is not its caller's.
            await File.WriteAllTextAsync(Path.GetFullPath(path, Repository.Root), BackendsDocument.Write(_subjects));
        }

        _one.Dispose();
    }
}
