using System.Reflection;

namespace Sandbox.Client.Tests;

/// <summary>A grain factory whose grains all answer from one function: by the method's name.</summary>
public class ScriptedGrains : DispatchProxy
{
    private Func<MethodInfo, object?[], object?> _invoke = null!;

    /// <summary>A client over it, with deadlines that end soon.</summary>
    /// <param name="answer">Takes the name of a grain's method (without <c>Async</c>) and its arguments; gives what its task shall bring, or throws.</param>
    internal static SandboxClient Client(Func<string, object?[], object?> answer) => new(
        Make<IGrainFactory>((method, arguments) => typeof(ScriptedGrains).GetMethod(nameof(Make), BindingFlags.NonPublic | BindingFlags.Static)!
            .MakeGenericMethod(method.GetGenericArguments()[0]).Invoke(null, [Grain(answer)])),
        "acme",
        null,
        new SandboxClientOptions { RetryDeadline = TimeSpan.FromMilliseconds(20), PausedPoll = TimeSpan.FromMilliseconds(1) });

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) => _invoke(targetMethod!, args ?? []);

    private static T Make<T>(Func<MethodInfo, object?[], object?> invoke)
        where T : class
    {
        var proxy = Create<T, ScriptedGrains>();
        ((ScriptedGrains)(object)proxy)._invoke = invoke;
        return proxy;
    }

    private static Func<MethodInfo, object?[], object?> Grain(Func<string, object?[], object?> answer) => (method, arguments) =>
    {
        var name = method.Name.Replace("Async", "", StringComparison.Ordinal);
        if (!method.ReturnType.IsGenericType)
        {
            answer(name, arguments);
            return Task.CompletedTask;
        }

        return typeof(Task).GetMethod(nameof(Task.FromResult))!.MakeGenericMethod(method.ReturnType.GetGenericArguments()[0]).Invoke(null, [answer(name, arguments)]);
    };
}
