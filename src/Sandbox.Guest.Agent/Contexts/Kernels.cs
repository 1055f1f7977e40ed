using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>How each language's kernel is started. The scripts lie beside the agent.</summary>
internal static class Kernels
{
    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "kernels");

    public static string[] CommandOf(string language) => language switch
    {
        "python" => ["python3", Path.Combine(Folder, "python_kernel.py")],
        "javascript" => ["node", Path.Combine(Folder, "javascript_kernel.js")],
        "bash" => ["bash", Path.Combine(Folder, "bash_kernel.sh")],
        _ => throw new AgentException(ErrorCode.InvalidArgument, $"There is no language '{language}'; there are python, javascript and bash."),
    };
}
