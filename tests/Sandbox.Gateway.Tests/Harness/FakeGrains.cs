using System.Reflection;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Tests.Harness;

/// <summary>A grain factory that answers with stand-ins: one world for all keys, which notes what it was asked and for whom.</summary>
public class FakeGrains : DispatchProxy
{
    private FakeWorld _world = null!;

    public static IGrainFactory Create(FakeWorld world)
    {
        var proxy = Create<IGrainFactory, FakeGrains>();
        ((FakeGrains)(object)proxy)._world = world;
        return proxy;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
    {
        if (targetMethod is not { Name: "GetGrain", IsGenericMethod: true } || args is null)
        {
            throw new NotSupportedException(targetMethod?.Name);
        }

        var contract = targetMethod.GetGenericArguments()[0];
        return contract == typeof(ITenantGrain) ? new FakeTenant(_world, (string)args[0]!)
            : contract == typeof(ISessionIndexGrain) ? new FakeIndex(_world, (string)args[0]!)
            : contract == typeof(ISchedulerGrain) ? new FakeScheduler(_world)
            : contract == typeof(ITemplateGrain) ? new FakeTemplate((string)args[0]!)
            : contract == typeof(IOutputGrain) ? new FakeOutput(_world, (string)args[0]!)
            : new FakeSession(_world, (string)args[0]!);
    }
}
