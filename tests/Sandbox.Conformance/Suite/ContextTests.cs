using Sandbox.Conformance.Backends;
using Sandbox.Guest.Protocol;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>Code in contexts, in every language that the backend's image has.</summary>
public sealed class ContextTests(Subjects subjects) : ConformanceTest(subjects)
{
    [Theory, ClassData(typeof(Matrix))]
    public async Task Variables_last_from_one_piece_of_code_to_the_next(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        foreach (var language in subject.Languages)
        {
            var (set, get) = language switch
            {
                "python" => ("x = 20", "print('hello'); x + 22"),
                "javascript" => ("let x = 20", "console.log('hello'); x + 22"),
                _ => ("x=20", "echo hello; echo $((x + 22))"),
            };
            var context = await Subject.ContextAsync(vm, language, Ct);
            Assert.Equal(0, (await CodeAsync(vm, context, set)).Exited.ExitCode);
            var ran = await CodeAsync(vm, context, get);
            Assert.StartsWith("hello\n", ran.Stdout, StringComparison.Ordinal);
            Assert.Equal("42", language == "bash" ? ran.Stdout["hello\n".Length..].Trim() : ran.Results.Single().Data["text/plain"].ToStringUtf8());
        }

        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task An_error_says_its_name_and_where_and_the_context_goes_on(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        foreach (var language in subject.Languages.Where(l => l != "bash"))
        {
            var context = await Subject.ContextAsync(vm, language, Ct);
            var error = await CodeAsync(vm, context, language == "python" ? "kept = 1\n1 / 0" : "var kept = 1; nothing.at.all");
            Assert.Equal(language == "python" ? "ZeroDivisionError" : "ReferenceError", error.Error?.Name);
            Assert.NotEmpty(error.Error!.Value);
            Assert.NotEmpty(error.Error.Traceback);
            Assert.Equal(1, error.Exited.ExitCode);
            Assert.Equal("1\n", (await CodeAsync(vm, context, language == "python" ? "print(kept)" : "console.log(kept)")).Stdout);
        }

        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task An_endless_loop_is_ended_at_its_time_and_what_became_of_the_context_is_said(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        foreach (var language in subject.Languages.Where(l => l != "bash"))
        {
            var context = await Subject.ContextAsync(vm, language, Ct);
            await CodeAsync(vm, context, language == "python" ? "kept = 7" : "var kept = 7");
            var loop = await CodeAsync(vm, context, language == "python" ? "while True: pass" : "while (true) {}", timeoutMs: 1500);
            Assert.True(loop.Exited.TimedOut, language);
            var after = await CodeAsync(vm, context, language == "python" ? "print(kept)" : "console.log(kept)");
            Assert.Equal(loop.Exited.ContextLost, after.Error is not null);
            Assert.Equal(loop.Exited.ContextLost ? "" : "7\n", after.Stdout);
        }

        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Contexts_are_listed_restarted_removed_and_apart(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        var (a, b) = (await Subject.ContextAsync(vm, "javascript", Ct), await Subject.ContextAsync(vm, "javascript", Ct));
        await CodeAsync(vm, a, "var mine = 'a'");
        Assert.Equal("ReferenceError", (await CodeAsync(vm, b, "mine")).Error?.Name);

        await AskAsync(vm, new Request { RestartContext = new RestartContext { ContextId = a } });
        Assert.Equal("ReferenceError", (await CodeAsync(vm, a, "mine")).Error?.Name);
        await AskAsync(vm, new Request { RemoveContext = new RemoveContext { ContextId = a } });
        var listed = (await AskAsync(vm, new Request { ListContexts = new ListContexts() })).Contexts.Contexts.Select(c => c.ContextId).ToList();
        Assert.DoesNotContain(a, listed);
        Assert.Contains(b, listed);
        Assert.NotEqual(ErrorCode.Unspecified, (await RefusedAsync(vm, new Request { CreateContext = new CreateContext { ContextId = "cobol", Language = "cobol" } })).Code);
        Passed(subject);
    }
}
