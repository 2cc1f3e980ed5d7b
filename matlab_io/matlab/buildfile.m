function plan = buildfile
% BUILDFILE  Check and package the toolbox: buildtool check, buildtool package.
%
%   Only MATLAB can run this file (R2023b or newer); it has not been run.

  plan = buildplan(localfunctions);
  plan.DefaultTasks = "check";
end

function checkTask(~)
% Check the code and the function signatures.
  issues = codeIssues(pwd, 'IncludeSubfolders', true);
  disp(issues.Issues)
  assert(~any(issues.Issues.Severity == "error"), 'the code has errors')
  signatures = validateFunctionSignaturesJSON(fullfile('resources', 'functionSignatures.json'));
  assert(isempty(signatures), 'resources/functionSignatures.json has errors')
end

function packageTask(~)
% Write nflae.mltbx into the folder above.
  options = matlab.addons.toolbox.ToolboxOptions(pwd, "0f0c1b4e-2d0f-4a7c-8c9b-6a3a5c1f7d52");
  options.ToolboxName = "nflae-bridge";
  options.ToolboxVersion = regexp(fileread('Contents.m'), '(?<=Version )\S+', 'match', 'once');
  options.Summary = "Near-field multi-user precoding for XL-MIMO arrays";
  options.ToolboxGettingStartedGuide = fullfile(pwd, 'gettingStarted.m');
  options.OutputFile = fullfile('..', 'nflae.mltbx');
  matlab.addons.toolbox.packageToolbox(options);
end
